package importer_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/evenkeel/evenkeel/pkg/importer"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

const services = `service,criticality,owner,phone,hours,vendor,contract,dependsOn,perHour,currency,author,date
Web Shop,1,Team Änderung,+49 30 1,24x7,,,payment login,12000.50,EUR,"Sales, retail",2026-01-15
payment,2,payments,,mon..fri 08:00-18:00; sat 09:00-13:00,Acme Pay,C-4711,,,,,
login,,,,,Acme Pay,,,,,,
`

func TestCSV(t *testing.T) {
	got, problems := importer.CSV("s.csv", []byte(services), "Europe/Berlin")
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	text, err := manifest.YAML(got.Resources...)
	if err != nil {
		t.Fatal(err)
	}
	want := `apiVersion: evenkeel/v1
kind: Calendar
metadata:
  name: around-the-clock
spec:
  timezone: UTC
  default: "1"
---
apiVersion: evenkeel/v1
kind: Calendar
metadata:
  name: mon-fri-08-00-18-00-sat-09-00-13-00
spec:
  title: mon..fri 08:00-18:00; sat 09:00-13:00
  timezone: Europe/Berlin
  default: "0"
  weekly:
  - days:
    - mon..fri
    from: "08:00"
    to: "18:00"
  - days:
    - sat
    from: "09:00"
    to: "13:00"
---
apiVersion: evenkeel/v1
kind: Service
metadata:
  name: login
spec:
  vendor: vendor/acme-pay
---
apiVersion: evenkeel/v1
kind: Service
metadata:
  name: payment
spec:
  criticality: 2
  owner: team/payments
  vendor: vendor/acme-pay
  supportHours: calendar/mon-fri-08-00-18-00-sat-09-00-13-00
---
apiVersion: evenkeel/v1
kind: Service
metadata:
  name: web-shop
spec:
  title: Web Shop
  criticality: 1
  owner: team/team-aenderung
  supportHours: calendar/around-the-clock
  value:
    perHour: "12000.5"
    currency: EUR
    author: Sales, retail
    date: "2026-01-15"
  dependsOn:
  - ref: service/payment
  - ref: service/login
---
apiVersion: evenkeel/v1
kind: Team
metadata:
  name: payments
spec: {}
---
apiVersion: evenkeel/v1
kind: Team
metadata:
  name: team-aenderung
spec:
  title: Team Änderung
  contacts:
  - name: team-aenderung
    phone: +49 30 1
---
apiVersion: evenkeel/v1
kind: Vendor
metadata:
  name: acme-pay
spec:
  title: Acme Pay
  contract: C-4711
`
	if diff := cmp.Diff(want, string(text)); diff != "" {
		t.Error(diff)
	}
	var gaps []string
	for _, g := range got.Gaps {
		gaps = append(gaps, fmt.Sprintf("%d %s: %s", g.Line, g.Ref, g.Text))
	}
	if diff := cmp.Diff([]string{
		"3 service/payment: it rests on nothing: its health is not known until the map says what it needs",
		"3 team/payments: no contact: neither phone nor email",
		"3 vendor/acme-pay: no contact: write the vendor's desk into the manifest",
		"3 vendor/acme-pay: no hours of the contract",
		"4 service/login: no owner: nobody is called when it fails",
		"4 service/login: no support hours: it is not known when somebody has to answer",
		"4 service/login: neither criticality nor value: it is unranked",
		"4 service/login: it rests on nothing: its health is not known until the map says what it needs",
	}, gaps); diff != "" {
		t.Error(diff)
	}
}

func TestMistakesInCSV(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"nothing", "", `s.csv:1:1: the file is empty (its first line names the columns, such as service,owner,criticality,hours,vendor)`},
		{"a column that is none", "service,ownr\n", `s.csv:1:9: "ownr" is not a column (did you mean "owner"?)`},
		{"a column twice", "service,owner,owner\n", `s.csv:1:15: column owner stands twice`},
		{"no service", "owner\nx\n", `s.csv:1:1: there is no column service (known: service, title, criticality, owner, phone, email, hours, vendor, contract, dependsOn, perHour, currency, author, date)`},
		{"too few fields", "service,owner\nx\n", `s.csv:2:1: there are 1 fields: the first line has 2`},
		{"a line without a name", "service,owner\n,x\n", `s.csv:2:1: the line names no service`},
		{"a name of nothing", "service\n***\n", `s.csv:2:1: no name can be made of "***" (letters and digits are needed)`},
		{"a service twice", "service\nWeb Shop\n\nweb shop\n", `s.csv:4:1: service/web-shop stands already in line 2`},
		{"text for a number", "service,criticality\na,high\n", `s.csv:2:3: spec.criticality must be a whole number, not text`},
		{"a number out of range", "service,criticality\na,9\n", `s.csv:2:3: spec.criticality is 9: expected 1 to 4`},
		{"hours that are none", "service,hours\na,office\n", `s.csv:2:3: "office" are not hours (expected 24x7, or such as mon..fri 08:00-18:00; sat 09:00-13:00)`},
		{"a day that is none", "service,hours\na,mon-fri 08:00-18:00\n", `s.csv:2:3: "mon-fri" is not a day of the week: expected mon, tue, wed, thu, fri, sat or sun, or a run such as mon..fri`},
		{"empty hours", "service,hours\na,mon 08:00-08:00\n", `s.csv:2:3: the window from 08:00 to 08:00 is empty (a whole day is 00:00 to 24:00)`},
		{"a service that is not there", "service,dependsOn\npayment,\na,paymnt\n", `s.csv:3:3: service/paymnt is not there (did you mean "service/payment"?)`},
		{"a loop", "service;dependsOn\na;b\nb;a\n", `s.csv:2:3: a loop: service/a -> service/b -> service/a`},
		{"money that is none", "service;perHour;currency\na;12,50;EUR\n", `s.csv:2:3: "12,50" is not a decimal number`},
		{"money without a currency", "service,perHour\na,12\n", `s.csv:2:1: spec.value.currency is missing`},
		{"a phone that is none", "service,owner,phone\na,x,call me\n", `s.csv:2:5: "call me" is not a phone number (digits, and + - . ( ) / and spaces, such as +49 30 1234567)`},
		{"two phones of one owner", "service,owner,phone\na,x,123\nb,X,124\n", `s.csv:3:5: team/x has phone "123" in line 2`},
		{"a phone of nobody", "service,owner,phone\na,,123\n", `s.csv:2:4: phone is that of the owner, and the line names none`},
		{"a contract with nobody", "service,vendor,contract\na,,123\n", `s.csv:2:4: the contract is that of the vendor, and the line names none`},
		{"no CSV", "service\n\"a\n", `s.csv:2:4: this is not CSV: extraneous or missing " in quoted-field`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, problems := importer.CSV("s.csv", []byte(c.text), "Europe/Berlin")
			var got []string
			for _, p := range problems {
				got = append(got, p.String())
			}
			if diff := cmp.Diff(c.want, strings.Join(got, "\n")); diff != "" {
				t.Error(diff)
			}
		})
	}
	if _, problems := importer.CSV("s.csv", []byte("service,hours\na,mon 08:00-18:00\n"), ""); len(problems) != 1 ||
		problems[0].String() != `s.csv:2:3: the hours "mon 08:00-18:00" have no time zone (say which: --timezone Europe/Berlin)` {
		t.Error(problems)
	}
}

// Whatever is read without a mistake is a valid set of manifests, with one service a line and nothing lost.
func TestCSVMakesValidManifests(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var b strings.Builder
		b.WriteString("service,owner,criticality,vendor,title\n")
		names := rapid.SliceOfNDistinct(rapid.StringMatching(`[A-Za-z][A-Za-z0-9 äß._/-]{0,20}[a-z]`), 1, 8, strings.ToLower).Draw(t, "names")
		for _, n := range names {
			fmt.Fprintf(&b, "%s,%s,%s,%s,%s\n", n, rapid.SampledFrom([]string{"", "A", "Ops Team"}).Draw(t, "owner"),
				rapid.SampledFrom([]string{"", "1", "4"}).Draw(t, "criticality"), rapid.SampledFrom([]string{"", "Acme", "true", "12"}).Draw(t, "vendor"),
				rapid.SampledFrom([]string{"", "yes", "1.5", "null", "a: b #c"}).Draw(t, "title"))
		}
		got, problems := importer.CSV("s.csv", []byte(b.String()), "")
		if len(problems) > 0 {
			for _, p := range problems {
				if !strings.Contains(p.Text, "stands already") {
					t.Fatalf("%s\n%s", p, b.String())
				}
			}
			return
		}
		text, err := manifest.YAML(got.Resources...)
		if err != nil {
			t.Fatal(err)
		}
		set, problems := manifest.CheckFiles([]manifest.File{{Name: "x", Text: text}}, nil)
		if len(problems) > 0 {
			t.Fatalf("%v\n%s", problems, text)
		}
		services := 0
		for range manifest.Of[manifest.Service](set) {
			services++
		}
		if services != len(names) || set.Len() != len(got.Resources) {
			t.Fatalf("%d services of %d lines, %d resources of %d", services, len(names), set.Len(), len(got.Resources))
		}
		for _, r := range got.Resources {
			again, ok := set.Get(r.Ref())
			if !ok {
				t.Fatalf("%s was not written", r.Ref())
			}
			if diff := cmp.Diff(r.Spec, again.Spec); diff != "" {
				t.Fatal(diff)
			}
		}
	})
}

func FuzzCSV(f *testing.F) {
	f.Add([]byte(services), "Europe/Berlin")
	f.Add([]byte("service;dependsOn\na;b\nb;a\n"), "")
	f.Fuzz(func(t *testing.T, text []byte, zone string) {
		got, problems := importer.CSV("s.csv", text, zone)
		if len(problems) > 0 && len(got.Resources) > 0 {
			t.Error("resources beside problems")
		}
	})
}
