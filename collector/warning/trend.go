package warning

import (
	"math"
	"slices"
	"time"
)

// Point is a measurement.
type Point struct {
	At    time.Time
	Value float64
}

// Trend is where a series goes: Slope by Theil and Sen, the median of the slopes of all pairs, with a 95 % range around it, per second;
// and Now, the value of that line at a moment.
type Trend struct {
	Slope, Low, High float64
	Now              float64
}

// The least number of points that a trend is drawn through, and the most that are looked at: of more, so many are taken, evenly.
const (
	LeastPoints = 5
	mostPoints  = 400
)

// TrendOf returns the trend of points at a moment; false where there are too few, or all are of one moment. A single wild value, or a
// third of them, does not move it.
func TrendOf(points []Point, now time.Time) (Trend, bool) {
	points = thin(points)
	slopes := make([]float64, 0, len(points)*(len(points)-1)/2)
	for i, a := range points {
		for _, b := range points[:i] {
			if dt := a.At.Sub(b.At).Seconds(); dt != 0 {
				slopes = append(slopes, (a.Value-b.Value)/dt)
			}
		}
	}
	if len(points) < LeastPoints || len(slopes) == 0 {
		return Trend{}, false
	}
	slices.Sort(slopes)
	out := Trend{Slope: median(slopes)}
	// Kendall's rank correlation of a series without a trend has this variance (Sen 1968): so far from the middle lie the ends.
	n, pairs := float64(len(points)), float64(len(slopes))
	spread := 1.959964 * math.Sqrt(n*(n-1)*(2*n+5)/18)
	out.Low = slopes[max(int(math.Floor((pairs-spread)/2)), 0)]
	out.High = slopes[min(int(math.Ceil((pairs+spread)/2)), len(slopes)-1)]
	level := make([]float64, len(points))
	for i, p := range points {
		level[i] = p.Value + out.Slope*now.Sub(p.At).Seconds()
	}
	slices.Sort(level)
	out.Now = median(level)
	return out, true
}

func thin(points []Point) []Point {
	if len(points) <= mostPoints {
		return points
	}
	out := make([]Point, mostPoints)
	for i := range out {
		out[i] = points[i*(len(points)-1)/(mostPoints-1)]
	}
	return out
}

func median(sorted []float64) float64 {
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// Never is a time that does not come.
const Never = time.Duration(math.MaxInt64)

// Until returns how long it takes to a limit, at the soonest and at the latest: 0 where it is reached, Never where a slope leads away
// from it, or so slowly that it takes more than a hundred years. above says that the limit is reached from below.
func (t Trend) Until(limit float64, above bool) (lo, hi time.Duration) {
	rest, fast, slow := limit-t.Now, t.High, t.Low
	if !above {
		rest, fast, slow = -rest, -t.Low, -t.High
	}
	return reach(rest, fast), reach(rest, slow)
}

func reach(rest, slope float64) time.Duration {
	const century = 100 * 365 * 24 * 3600.0
	switch {
	case rest <= 0:
		return 0
	case slope <= 0 || rest/slope > century:
		return Never
	}
	return time.Duration(rest / slope * float64(time.Second))
}
