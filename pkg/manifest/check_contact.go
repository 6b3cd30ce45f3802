package manifest

import (
	"fmt"
	"strings"
)

func checkTeam(c *checker, t *Team) {
	c.contacts("spec.contacts", t.Contacts)
	if f := t.Fallback; f != nil {
		c.contact("spec.fallback", f)
		if f.Hours != "" {
			c.problem("spec.fallback.hours", "a fallback is called when nobody else is there: it has no hours", "leave hours out")
		}
	}
	self := RefOf(KindTeam, c.r.Metadata.Name)
	last := Duration(-1)
	seen := map[Ref]bool{}
	for i, e := range t.Escalation {
		at := fmt.Sprintf("spec.escalation[%d]", i)
		switch {
		case e.To == "":
		case e.To == self:
			c.problem(at+".to", "a team does not escalate to itself", "")
		case seen[e.To]:
			c.problemf(at+".to", "%s is listed twice", e.To)
		}
		seen[e.To] = true
		if e.After <= last {
			c.problemf(at+".after", "after %s does not come later than the step before it, after %s", e.After, last)
		}
		last = max(last, e.After)
	}
}

func checkVendor(c *checker, v *Vendor) {
	c.contacts("spec.contacts", v.Contacts)
	if oneLine(v.Contract) != "" {
		c.problem("spec.contract", "the contract's number "+oneLine(v.Contract), "")
	}
	c.targets("spec.targets", v.Targets)
}

func (c *checker) targets(list string, targets []Target) {
	for i, t := range targets {
		at := fmt.Sprintf("%s[%d]", list, i)
		if t.Response == 0 && t.Restore == 0 {
			c.problem(at, at+" promises nothing", "it takes response, restore or both")
		}
		if t.Response != 0 && t.Restore != 0 && t.Restore < t.Response {
			c.problemf(at+".restore", "restore %s comes before response %s", t.Restore, t.Response)
		}
		if i == 0 || t.Priority == 0 {
			continue
		}
		before := targets[i-1]
		switch {
		case t.Priority <= before.Priority:
			c.problemf(at+".priority", "priority %d after %d: the highest, 1, comes first, and each stands once", t.Priority, before.Priority)
		case t.Response != 0 && t.Response < before.Response:
			c.problemf(at+".response", "priority %d is answered sooner than %d: %s, and %s", t.Priority, before.Priority, t.Response, before.Response)
		case t.Restore != 0 && t.Restore < before.Restore:
			c.problemf(at+".restore", "priority %d is restored sooner than %d: %s, and %s", t.Priority, before.Priority, t.Restore, before.Restore)
		}
	}
}

func (c *checker) contacts(at string, list []Contact) {
	names := map[string]bool{}
	for i := range list {
		p := fmt.Sprintf("%s[%d]", at, i)
		c.contact(p, &list[i])
		if n := list[i].Name; n != "" && names[n] {
			c.problemf(p+".name", "contact %q is listed twice", n)
		}
		names[list[i].Name] = true
	}
}

func (c *checker) contact(at string, x *Contact) {
	if why := oneLine(x.Name); why != "" {
		c.problem(at+".name", "the name "+why, "")
	}
	if x.Phone == "" && x.Email == "" {
		c.problem(at, at+" has neither phone nor email", "")
	}
	if x.Phone != "" && !validPhone(x.Phone) {
		c.problem(at+".phone", fmt.Sprintf("%q is not a phone number", x.Phone), "digits, and + - . ( ) / and spaces, such as +49 30 1234567")
	}
	if x.Email != "" && !validEmail(x.Email) {
		c.problem(at+".email", fmt.Sprintf("%q is not an address", x.Email), "such as ops@example.org")
	}
}

// oneLine says why a text is not one line of print; it is empty where it is.
func oneLine(s string) string {
	switch {
	case len(s) > 200:
		return "is longer than 200 bytes"
	case strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return "has a control character"
	}
	return ""
}

func validPhone(s string) bool {
	n := 0
	for i := range len(s) {
		switch ch := s[i]; {
		case ch >= '0' && ch <= '9':
			n++
		case strings.IndexByte("+-.()/ ", ch) < 0:
			return false
		}
	}
	return n >= 2 && len(s) <= 40
}

func validEmail(s string) bool {
	user, domain, ok := strings.Cut(s, "@")
	return ok && user != "" && domain != "" && len(s) <= 254 && !strings.Contains(domain, "@") &&
		!strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f || strings.ContainsRune(`<>,;"\`, r) })
}
