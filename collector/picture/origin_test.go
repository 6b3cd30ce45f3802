package picture_test

import (
	"testing"
	"time"

	"github.com/evenkeel/evenkeel/collector/picture"
	"github.com/evenkeel/evenkeel/collector/slo"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

const estate = `apiVersion: evenkeel/v1
kind: Service
metadata: {name: shop}
spec: {dependsOn: [{ref: component/web}, {ref: service/pay}]}
---
apiVersion: evenkeel/v1
kind: Service
metadata: {name: pay}
spec: {dependsOn: [{ref: component/gateway}, {ref: component/db}]}
---
apiVersion: evenkeel/v1
kind: Component
metadata: {name: web}
spec: {hosts: {names: [h]}}
---
apiVersion: evenkeel/v1
kind: Component
metadata: {name: db}
spec: {hosts: {names: [h]}}
---
apiVersion: evenkeel/v1
kind: Component
metadata: {name: gateway}
spec: {external: {vendor: vendor/acme}}
---
apiVersion: evenkeel/v1
kind: Vendor
metadata: {name: acme}
---
apiVersion: evenkeel/v1
kind: Host
metadata: {name: h}
`

func TestOrigin(t *testing.T) {
	for _, c := range []struct {
		set       map[string]string
		shop, pay slo.Origin
	}{
		{nil, slo.Unknown, slo.Unknown},
		{map[string]string{"component/web": "critical"}, slo.Own, slo.Unknown},
		{map[string]string{"component/web@h": "critical"}, slo.Own, slo.Unknown},
		{map[string]string{"component/db@h": "critical"}, slo.Upstream, slo.Own},
		{map[string]string{"component/gateway": "critical"}, slo.Vendor, slo.Vendor},
		{map[string]string{"component/gateway": "critical", "component/db@h": "critical"}, slo.Upstream, slo.Own},
		{map[string]string{"component/gateway": "critical", "component/web@h": "critical"}, slo.Own, slo.Vendor},
		{map[string]string{"service/pay": "critical"}, slo.Upstream, slo.Own},
		{map[string]string{"component/db@h": "unknown"}, slo.Unknown, slo.Unknown},
	} {
		p, problems := picture.FromFiles([]manifest.File{{Name: "m", Text: []byte(estate)}}, picture.Options{At: time.Now(), Set: c.set})
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		if shop, pay := picture.Stand(p.Map).Origin("service/shop"), picture.Stand(p.Map).Origin("service/pay"); shop != c.shop || pay != c.pay {
			t.Errorf("%v: shop %s, pay %s, want %s, %s", c.set, shop, pay, c.shop, c.pay)
		}
	}
}
