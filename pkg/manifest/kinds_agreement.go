package manifest

import "github.com/evenkeel/evenkeel/pkg/civil"

// KindAgreement is what was promised for services.
const KindAgreement = "Agreement"

// Agreement is what a team, or a vendor, has promised for services: to the business, or to us.
type Agreement struct {
	Title    string `json:"title,omitempty"`
	Services []Ref  `json:"services" manifest:"required,ref=service"`
	// Provider is who promises.
	Provider Ref `json:"provider" manifest:"required,ref=team|vendor"`
	// Hours are those in which the targets count; around the clock where not stated.
	Hours Ref `json:"hours,omitempty" manifest:"ref=calendar"`
	// Targets are for the priorities 1 to 4 of incidents, the highest first.
	Targets []Target `json:"targets" manifest:"required"`
	// Credit is what the provider owes for each target that was missed; nothing where not stated.
	Credit   *Credit   `json:"credit,omitempty"`
	Signed   civil.Day `json:"signed" manifest:"required"`
	ReviewBy civil.Day `json:"reviewBy" manifest:"required"`
}

// Credit is owed for one breach; exactly one of Percent and Amount is set.
type Credit struct {
	// Percent is of the fee of the month in which the breach lies.
	Percent  *Share  `json:"percent,omitempty"`
	Amount   Decimal `json:"amount,omitempty"`
	Currency string  `json:"currency,omitempty"` // three capital letters; goes with Amount
}
