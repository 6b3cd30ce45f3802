package manifest

import (
	"fmt"
	"strings"
	"time"

	"github.com/evenkeel/evenkeel/pkg/civil"
)

// Calendar says how much an hour counts, by the wall clock of a zone: as a factor on the value of a service, or as support hours,
// which are open where the factor is above 0. Of the entries that match a moment the greatest factor applies; Default where none does.
type Calendar struct {
	Title    string `json:"title,omitempty"`
	Timezone string `json:"timezone" manifest:"required"` // IANA name
	// Default is the factor outside every entry: 1 where not stated, which fits values. Support hours state default: 0.
	Default     *Decimal       `json:"default,omitempty"`
	Weekly      []WeeklyWindow `json:"weekly,omitempty"`
	Holidays    []Holiday      `json:"holidays,omitempty"`
	Peaks       []Peak         `json:"peaks,omitempty"`
	Rules       []CalendarRule `json:"rules,omitempty"`
	WorkingDays []WorkingDays  `json:"workingDays,omitempty"`
	// ICal is iCalendar text. Events with dates are holidays, events with times are peaks; X-EVENKEEL-FACTOR is the factor of either.
	ICal string `json:"ical,omitempty"`
}

// WeeklyWindow is a window of some days of the week. To before From passes midnight; the window belongs to the day on which it begins.
type WeeklyWindow struct {
	Days   []Weekdays  `json:"days" manifest:"required"`
	From   civil.Clock `json:"from" manifest:"required"`
	To     civil.Clock `json:"to" manifest:"required"` // 24:00 is the end of the day
	Factor *Decimal    `json:"factor,omitempty"`       // 1 where not stated
}

// Holiday is a day on which no weekly window applies.
type Holiday struct {
	Date   civil.Day `json:"date" manifest:"required"`
	Name   string    `json:"name,omitempty"`
	Factor *Decimal  `json:"factor,omitempty"` // 0 where not stated
}

// Peak is a dated stretch on the wall clock, From up to, and without, To.
type Peak struct {
	Name   string     `json:"name,omitempty"`
	From   civil.Time `json:"from" manifest:"required"`
	To     civil.Time `json:"to" manifest:"required"`
	Factor *Decimal   `json:"factor" manifest:"required"`
}

// CalendarRule is a stretch of Length that begins at From on every day of a recurrence rule of RFC 5545.
type CalendarRule struct {
	Name  string `json:"name,omitempty"`
	RRule string `json:"rrule" manifest:"required"`
	// Start is the day from which INTERVAL and COUNT count; only a rule that depends on one needs it.
	Start  *civil.Day  `json:"start,omitempty"`
	From   civil.Clock `json:"from,omitempty"` // 00:00 where not stated
	Length Duration    `json:"length" manifest:"required"`
	Factor *Decimal    `json:"factor" manifest:"required"`
}

// WorkingDays is a window on the first or the last working days of each month; exactly one of First and Last is set. A working day
// is one of Days, or where that is empty a day on which a weekly window begins, that is no holiday.
type WorkingDays struct {
	Name   string       `json:"name,omitempty"`
	First  int          `json:"first,omitempty" manifest:"min=1,max=31"`
	Last   int          `json:"last,omitempty" manifest:"min=1,max=31"`
	Days   []Weekdays   `json:"days,omitempty"`
	From   civil.Clock  `json:"from,omitempty"` // 00:00 where not stated
	To     *civil.Clock `json:"to,omitempty"`   // 24:00 where not stated
	Factor *Decimal     `json:"factor" manifest:"required"`
}

// DefaultFactor returns Default, 1 where none was stated.
func (c *Calendar) DefaultFactor() Decimal { return orElse(c.Default, micro) }

// FactorInForce returns Factor, 1 where none was stated.
func (w *WeeklyWindow) FactorInForce() Decimal { return orElse(w.Factor, micro) }

// FactorInForce returns Factor, 0 where none was stated.
func (h *Holiday) FactorInForce() Decimal { return orElse(h.Factor, 0) }

func orElse(d *Decimal, otherwise Decimal) Decimal {
	if d == nil {
		return otherwise
	}
	return *d
}

// Weekdays is a day of the week, written mon, or a run of them, written mon..fri; fri..mon goes over the weekend.
type Weekdays struct{ First, Last time.Weekday }

func weekdayNames() []string { return []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"} }

// Has reports whether a day is among them.
func (w Weekdays) Has(d time.Weekday) bool { return (d-w.First+7)%7 <= (w.Last-w.First+7)%7 }

// String writes mon or mon..fri.
func (w Weekdays) String() string {
	names := weekdayNames()
	if w.First == w.Last {
		return names[w.First]
	}
	return names[w.First] + ".." + names[w.Last]
}

// MarshalText writes what String returns.
func (w Weekdays) MarshalText() ([]byte, error) { return []byte(w.String()), nil }

// UnmarshalText reads mon or mon..fri.
func (w *Weekdays) UnmarshalText(b []byte) error {
	first, last, run := strings.Cut(string(b), "..")
	if !run {
		last = first
	}
	days := [2]time.Weekday{-1, -1}
	for i, word := range []string{first, last} {
		for d, name := range weekdayNames() {
			if word == name {
				days[i] = time.Weekday(d)
			}
		}
	}
	if days[0] < 0 || days[1] < 0 {
		return fmt.Errorf("%q is not a day of the week: expected mon, tue, wed, thu, fri, sat or sun, or a run such as mon..fri", b)
	}
	*w = Weekdays{days[0], days[1]}
	return nil
}
