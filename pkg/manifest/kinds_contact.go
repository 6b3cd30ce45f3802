package manifest

// The kinds that say who is to be called.
const (
	KindTeam   = "Team"
	KindVendor = "Vendor"
)

// Team is a group of people that owns services and components.
type Team struct {
	Title    string    `json:"title,omitempty"`
	Contacts []Contact `json:"contacts,omitempty"`
	// Escalation says who is called when nobody answered, the earliest first.
	Escalation []Escalation `json:"escalation,omitempty"`
	// Fallback is called when no contact is to be reached; it has no hours.
	Fallback *Contact `json:"fallback,omitempty"`
}

// Contact is a person or a desk; at least one of Phone and Email is set. Without Hours it is there around the clock.
type Contact struct {
	Name  string `json:"name" manifest:"required"`
	Phone string `json:"phone,omitempty"`
	Email string `json:"email,omitempty"`
	Hours Ref    `json:"hours,omitempty" manifest:"ref=calendar"`
}

// Escalation names who is called when the call is After old and nobody has taken it.
type Escalation struct {
	After Duration `json:"after" manifest:"required"`
	To    Ref      `json:"to" manifest:"required,ref=team|vendor"`
}

// Vendor is somebody outside with a contract.
type Vendor struct {
	Title string `json:"title,omitempty"`
	// Contract is its number, as the vendor's desk asks for it.
	Contract string `json:"contract,omitempty"`
	// Hours are those of the contract: outside them nobody is bound to answer. Around the clock where not stated.
	Hours    Ref       `json:"hours,omitempty" manifest:"ref=calendar"`
	Contacts []Contact `json:"contacts,omitempty"`
	Targets  []Target  `json:"targets,omitempty"`
}

// Target is what a contract or an agreement promises for a priority, 1 the highest: how soon somebody responds, how soon it
// works again. Both count in its hours; at least one is set.
type Target struct {
	Priority int      `json:"priority" manifest:"required,min=1,max=9"`
	Response Duration `json:"response,omitempty"`
	Restore  Duration `json:"restore,omitempty"`
}
