package manifest_test

import "testing"

const teamHead = "apiVersion: evenkeel/v1\nkind: Team\nmetadata: {name: t}\nspec:\n"

const vendorHead = "apiVersion: evenkeel/v1\nkind: Vendor\nmetadata: {name: v}\nspec:\n"

func TestContactMistakes(t *testing.T) { tell(t, contactMistakes()) }

func contactMistakes() []mistake {
	return []mistake{
		{"contact without a name", teamHead + "  contacts: [{phone: '123'}]\n", `f.yaml:5:14: spec.contacts[0].name is missing`},
		{"contact that cannot be reached", teamHead + "  contacts:\n    - name: A\n", `f.yaml:6:7: spec.contacts[0] has neither phone nor email`},
		{"not a number", teamHead + "  contacts: [{name: A, phone: call me}]\n", `f.yaml:5:31: "call me" is not a phone number (digits, and + - . ( ) / and spaces, such as +49 30 1234567)`},
		{"number without quotes", teamHead + "  contacts: [{name: A, phone: 112}]\n", `f.yaml:5:31: spec.contacts[0].phone must be text, not a number (put it in quotes)`},
		{"not an address", teamHead + "  contacts: [{name: A, email: ops@}]\n", `f.yaml:5:31: "ops@" is not an address (such as ops@example.org)`},
		{"address with a header in it", teamHead + "  contacts: [{name: A, email: \"a@b\\nBcc: c@d\"}]\n", `f.yaml:5:31: "a@b\nBcc: c@d" is not an address (such as ops@example.org)`},
		{"contact twice", teamHead + "  contacts:\n    - {name: A, phone: '12'}\n    - {name: A, phone: '13'}\n", `f.yaml:7:14: contact "A" is listed twice`},
		{"hours that are no calendar", teamHead + "  contacts: [{name: A, phone: '12', hours: team/x}]\n", `f.yaml:5:44: "team/x" refers to a team: expected a calendar`},
		{"fallback with hours", teamHead + "  fallback: {name: A, phone: '12', hours: calendar/x}\n", `f.yaml:5:43: a fallback is called when nobody else is there: it has no hours (leave hours out)`},
		{"escalation to itself", teamHead + "  escalation: [{after: 15m, to: team/t}]\n", `f.yaml:5:33: a team does not escalate to itself`},
		{"escalation to nobody", teamHead + "  escalation: [{after: 15m, to: team/u}]\n", `f.yaml:5:33: team/u is not there (did you mean "team/t"?)`},
		{"escalation to a service", teamHead + "  escalation: [{after: 15m, to: service/u}]\n", `f.yaml:5:33: "service/u" refers to a service: expected a team or vendor`},
		{
			"escalation out of order", teamHead + "  escalation:\n    - {after: 15m, to: team/u}\n    - {after: 5m, to: team/w}\n",
			`f.yaml:7:15: after 5m does not come later than the step before it, after 15m`,
		},
		{"escalation twice", teamHead + "  escalation:\n    - {after: 15m, to: team/u}\n    - {after: 20m, to: team/u}\n", `f.yaml:7:24: team/u is listed twice`},
		{"owner that is not there", svcHead + "  owner: team/x\n", `f.yaml:5:10: team/x is not there`},
		{"vendor that is not there", svcHead + "  vendor: vendor/x\n", `f.yaml:5:11: vendor/x is not there`},
		{"contract of two lines", vendorHead + "  contract: \"1\\n2\"\n", `f.yaml:5:13: the contract's number has a control character`},
		{"target that promises nothing", vendorHead + "  targets: [{priority: 1}]\n", `f.yaml:5:13: spec.targets[0] promises nothing (it takes response, restore or both)`},
		{"restored before anybody answers", vendorHead + "  targets: [{priority: 1, response: 2h, restore: 1h}]\n", `f.yaml:5:50: restore 1h comes before response 2h`},
		{"priority out of range", vendorHead + "  targets: [{priority: 10, response: 2h}]\n", `f.yaml:5:24: spec.targets[0].priority is 10: expected 1 to 9`},
		{
			"priority twice", vendorHead + "  targets:\n    - {priority: 1, response: 1h}\n    - {priority: 1, response: 2h}\n",
			`f.yaml:7:18: priority 1 after 1: the highest, 1, comes first, and each stands once`,
		},
		{
			"lower priority served sooner", vendorHead + "  targets:\n    - {priority: 1, response: 1h}\n    - {priority: 2, response: 30m}\n",
			`f.yaml:7:31: priority 2 is answered sooner than 1: 30m, and 1h`,
		},
		{
			"lower priority restored sooner", vendorHead + "  targets:\n    - {priority: 1, restore: 4h}\n    - {priority: 2, restore: 2h}\n",
			`f.yaml:7:30: priority 2 is restored sooner than 1: 2h, and 4h`,
		},
	}
}
