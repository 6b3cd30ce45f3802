// The costyear program takes the figure cost-year: how long it takes to price a year of 1,000 services, each with a calendar and with
// a health of its own for every minute, 525,600 of them. It runs on one CPU.
//
// Sixty-four histories are made beforehand, and each service has a stretch of one of them that begins at a minute of its own, so that
// no two services have the same year; they fit in no cache of a usual machine together. Half of them are calm, a few outages among weeks
// of ok, and in the other half the level is drawn anew for every minute, which is as hard as a history can be. The service's rates
// differ, and so do 50 calendars, which are built within the measured time, with every year that they are asked for. Before the figure is
// printed, a calm and a restless service are priced run by run as well, which has to give the same amounts.
package main

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/evenkeel/evenkeel/collector/cost"
	"github.com/evenkeel/evenkeel/pkg/calendar"
	"github.com/evenkeel/evenkeel/pkg/health"
	"github.com/evenkeel/evenkeel/pkg/manifest"
	"github.com/evenkeel/evenkeel/scripts/figure/report"
)

const (
	name      = "cost-year"
	services  = 1000
	minutes   = 365 * 24 * 60
	histories = 64
	calendars = 50
)

func main() {
	runs := flag.Int("runs", 5, "how often the year is priced; the figure is the median")
	flag.Parse()
	if *runs < 1 {
		report.Fail(name, fmt.Errorf("-runs is %d: expected at least 1", *runs))
	}
	runtime.GOMAXPROCS(1)
	pool, specs, err := world()
	if err != nil {
		report.Fail(name, err)
	}
	took := make([]float64, *runs)
	for i := range took {
		began := time.Now()
		cpu, err := report.CPU(os.Getpid())
		if err != nil {
			report.Fail(name, err)
		}
		total, segments, err := price(pool, specs)
		if err != nil {
			report.Fail(name, err)
		}
		took[i] = time.Since(began).Seconds()
		after, err := report.CPU(os.Getpid())
		if err != nil {
			report.Fail(name, err)
		}
		fmt.Printf("run %d: %d services x %d minutes, %d segments of calendars, %s EUR: %.3f s, of CPU time %.3f s\n",
			i+1, services, minutes, segments, total, took[i], (after - cpu).Seconds())
	}
	if err := verify(pool, specs[0]); err != nil {
		report.Fail(name, err)
	}
	fmt.Printf("%s s over %d runs\n", report.Range(took), *runs)
	report.Exit(report.Figure{Name: name, Value: report.Median(took), Unit: "s", Op: "<=", Goal: 1})
}

// world makes the histories, twice as long as a year so that a year may begin anywhere in the first half, and the calendars' specs.
func world() ([][]health.Level, []*manifest.Calendar, error) {
	r := rand.New(rand.NewPCG(1, 2))
	pool := make([][]health.Level, histories)
	for i := range pool {
		h := make([]health.Level, 2*minutes)
		level, left := health.OK, 0
		for m := range h {
			switch {
			case i%2 == 1:
				level = health.Level(r.IntN(int(health.Critical) + 1))
			case left == 0 && level == health.OK:
				level, left = health.Level(1+r.IntN(int(health.Critical))), 1+r.IntN(240)
			case left == 0:
				level, left = health.OK, 1+r.IntN(14*24*60)
			}
			h[m] = level
			left--
		}
		pool[i] = h
	}
	specs := make([]*manifest.Calendar, calendars)
	zones := []string{"Europe/Berlin", "America/New_York", "Australia/Sydney", "Asia/Tokyo", "America/Sao_Paulo"}
	for i := range specs {
		set, problems := manifest.Parse("calendar", fmt.Appendf(nil, strings.TrimSpace(`
apiVersion: evenkeel/v1
kind: Calendar
metadata: {name: c}
spec:
  timezone: %s
  weekly:
    - {days: [mon..sun], from: 22:00, to: 06:00, factor: 0.2}
    - {days: [mon..fri], from: "%02d:30", to: 14:15, factor: 1.3}
    - {days: [sat, sun], from: 10:00, to: 20:00, factor: 1.5}
  holidays: [{date: 2026-01-01}, {date: 2026-12-25}, {date: 2026-12-26, factor: 0.5}]
  peaks: [{from: 2026-11-27T00:00, to: 2026-11-30T00:00, factor: 3}]
  rules: [{rrule: FREQ=MONTHLY;BYDAY=-1FR, from: 09:00, length: 8h, factor: 2}]
  workingDays: [{last: 3, days: [mon..fri], from: 08:00, to: 18:00, factor: 2.5}]
`), zones[i%len(zones)], 7+i%5))
		for _, p := range problems {
			return nil, nil, fmt.Errorf("%s", p)
		}
		spec, ok := manifest.SpecOf[manifest.Calendar](set, "calendar/c")
		if !ok {
			return nil, nil, fmt.Errorf("no calendar was read")
		}
		specs[i] = spec
	}
	return pool, specs, nil
}

// price returns what the services cost together, and how many stretches of one factor their calendars had.
func price(pool [][]health.Level, specs []*manifest.Calendar) (manifest.Decimal, int, error) {
	built := make([]*calendar.Calendar, len(specs))
	for i, spec := range specs {
		c, err := calendar.New(spec)
		if err != nil {
			return 0, 0, err
		}
		built[i] = c
	}
	start := begin()
	segments := 0
	for _, c := range built {
		for range c.Segments(start, start.AddDate(1, 0, 0)) {
			segments++
		}
	}
	var total manifest.Decimal
	for i := range services {
		rate := rateOf(i, built[i%len(built)])
		h, shift := pool[i%len(pool)], i*521
		total += rate.Series(cost.Series{Start: start, Step: time.Minute, Levels: h[shift : shift+minutes]})
	}
	return total, segments, nil
}

func begin() time.Time { return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) }

func rateOf(service int, c *calendar.Calendar) cost.Rate {
	rate := cost.Rate{PerHour: manifest.Decimal(10_000_000 + service), Calendar: c}
	rate.Loss[health.Minor], rate.Loss[health.Major], rate.Loss[health.Critical] = 100_000, 500_000, 1_000_000
	return rate
}

// verify prices the first two histories by runs of a minute and compares.
func verify(pool [][]health.Level, spec *manifest.Calendar) error {
	c, err := calendar.New(spec)
	if err != nil {
		return err
	}
	for i, h := range pool[:2] {
		rate := rateOf(i, c)
		runs := make([]cost.Run, minutes)
		for m := range runs {
			runs[m] = cost.Run{From: begin().Add(time.Duration(m) * time.Minute), Level: h[m]}
		}
		series := rate.Series(cost.Series{Start: begin(), Step: time.Minute, Levels: h[:minutes]})
		if want := rate.Runs(runs, begin().Add(minutes*time.Minute)); series != want {
			return fmt.Errorf("history %d costs %s as a series and %s as runs", i, series, want)
		}
	}
	return nil
}
