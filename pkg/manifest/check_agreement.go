package manifest

import (
	"fmt"
	"slices"
)

// lowestPriority is that of the incidents that matter least.
const lowestPriority = 4

func checkAgreement(c *checker, a *Agreement) {
	c.listedOnce("spec.services", a.Services)
	c.targets("spec.targets", a.Targets)
	for i, t := range a.Targets {
		if t.Priority > lowestPriority {
			c.problemf(fmt.Sprintf("spec.targets[%d].priority", i), "priority %d: incidents have 1 to %d", t.Priority, lowestPriority)
		}
	}
	if k := a.Credit; k != nil {
		c.exactlyOne("spec.credit", "percent and amount", k.Percent != nil, k.Amount != 0)
		if k.Amount < 0 {
			c.problemf("spec.credit.amount", "amount %s is below 0", k.Amount)
		}
		switch {
		case k.Amount != 0 && k.Currency == "":
			c.problem("spec.credit", "spec.credit.currency is missing", "three capital letters, such as EUR")
		case k.Amount == 0 && k.Currency != "":
			c.problem("spec.credit.currency", "a currency goes with spec.credit.amount", "")
		case k.Currency != "" && !currency(k.Currency):
			c.problem("spec.credit.currency", fmt.Sprintf("%q is not a currency", k.Currency), "three capital letters, such as EUR")
		}
	}
	// Where a date could not be read, it is told of already.
	if c.wrote("spec.signed") && c.wrote("spec.reviewBy") && a.ReviewBy <= a.Signed {
		c.problemf("spec.reviewBy", "the review of %s is not after the signature of %s", a.ReviewBy, a.Signed)
	}
}

// wrote reports whether a field was written and read without a mistake.
func (c *checker) wrote(path string) bool {
	_, there := c.r.places[path]
	return there && !slices.ContainsFunc(c.told, func(p Problem) bool { return p.Path == path })
}
