package collector

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evenkeel/evenkeel/collector/api"
	"github.com/evenkeel/evenkeel/collector/incident"
	"github.com/evenkeel/evenkeel/collector/overload"
	"github.com/evenkeel/evenkeel/collector/state"
	"github.com/evenkeel/evenkeel/pkg/command"
	"github.com/evenkeel/evenkeel/pkg/identity"
	"github.com/evenkeel/evenkeel/pkg/manifest"
	"github.com/evenkeel/evenkeel/pkg/memnet"
)

// backend is the API's view of the world.
func (w *world) backend() *backend {
	w.Helper()
	network := memnet.New()
	w.Cleanup(network.Close)
	port, err := network.Host("keel").Listen("keel:8425")
	if err != nil {
		w.Fatal(err)
	}
	c := &Collector{cfg: Default(), clock: time.Now, cluster: w.roster.CA().Cluster(), started: time.Now()}
	return &backend{collector: c, decider: w.decider, roster: w.roster, keeper: w.keeper, executor: w.executor, operators: port}
}

func TestBackendTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, state.NewMemory(), "")
		defer w.stop()
		b := w.backend()
		b.collector.cfg.Advertise = "keel.example"
		ctx := t.Context()

		made, text, err := tokens{b}.CreateToken(ctx, api.NewToken{TTL: time.Hour, Uses: 3, Labels: map[string]string{"role": "web"}, By: "ada"})
		if err != nil {
			t.Fatal(err)
		}
		join, err := identity.ParseJoin(text)
		if err != nil || join.Address != "keel.example:8425" || join.Pin != w.roster.CA().Pin() {
			t.Errorf("join at %s with pin %s: %v", join.Address, join.Pin, err)
		}
		if made.State != "usable" || made.UsesLeft != 3 || time.Until(made.Expires) != time.Hour || made.CreatedBy != "ada" {
			t.Errorf("%+v", made)
		}
		if _, err := b.authenticate(ctx, join.Token); !errors.Is(err, api.ErrBadToken) {
			t.Errorf("a join token is an operator's: %v", err)
		}

		viewer, secret, err := tokens{b}.CreateToken(ctx, api.NewToken{TTL: time.Hour, Role: "viewer", Name: "wall", By: "ada"})
		if err != nil || viewer.Role != "viewer" || viewer.Name != "wall" {
			t.Fatalf("%+v, %v", viewer, err)
		}
		if p, err := b.authenticate(ctx, secret); err != nil || p != (api.Principal{Name: "wall", Role: api.Viewer}) {
			t.Errorf("%+v, %v", p, err)
		}
		for _, bad := range []string{"", "x", secret + "x", secret[:len(secret)-1] + "!"} {
			if _, err := b.authenticate(ctx, bad); !errors.Is(err, api.ErrBadToken) {
				t.Errorf("%q: %v", bad, err)
			}
		}
		all, err := tokens{b}.ListTokens(ctx)
		if err != nil || len(all) != 2 {
			t.Fatalf("%+v, %v", all, err)
		}
		if err := (tokens{b}).RevokeToken(ctx, viewer.ID); err != nil {
			t.Fatal(err)
		}
		if _, err := b.authenticate(ctx, secret); !errors.Is(err, api.ErrBadToken) || !errors.Is(err, identity.ErrTokenRevoked) {
			t.Errorf("a revoked token: %v", err)
		}
		if err := (tokens{b}).RevokeToken(ctx, "nothing"); !errors.Is(err, api.ErrNotFound) {
			t.Errorf("no such token: %v", err)
		}
		_, short, err := tokens{b}.CreateToken(ctx, api.NewToken{TTL: time.Minute, Role: "admin", Name: "brief"})
		if err != nil {
			t.Fatal(err)
		}
		<-time.After(2 * time.Minute)
		if _, err := b.authenticate(ctx, short); !errors.Is(err, api.ErrBadToken) || !errors.Is(err, identity.ErrTokenExpired) {
			t.Errorf("an expired token: %v", err)
		}
		for _, x := range []string{"expired", "revoked", "usable"} {
			all, _ := tokens{b}.ListTokens(ctx)
			if !slices.ContainsFunc(all, func(t api.Token) bool { return t.State == x }) {
				t.Errorf("no token is %s: %+v", x, all)
			}
		}
	})
}

// What the parts say is not there, or not now, reaches the asker with the right code and the part's own words.
func TestBackendTellsWhatKindOfFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, state.NewMemory(), shopMap)
		defer w.stop()
		b, ctx := w.backend(), t.Context()
		for _, tt := range []struct {
			name string
			call func() error
			want error
			says string
		}{
			{"resource", func() error { _, err := resources{b}.Get("service", "nope"); return err }, api.ErrNotFound, "service/nope"},
			{"delete", func() error { _, err := resources{b}.Delete(ctx, "service", "nope"); return err }, api.ErrNotFound, "service/nope"},
			{"referred", func() error { _, err := resources{b}.Delete(ctx, "component", "server"); return err }, api.ErrConflict, "service/shop"},
			{"shipped", func() error { _, err := resources{b}.Delete(ctx, "detector", "host-cpu"); return err }, api.ErrConflict, "host-cpu"},
			{"host", func() error { _, err := hostsBackend{b}.Get(ctx, "nope"); return err }, api.ErrNotFound, "nope"},
			{"admit", func() error { _, err := hostsBackend{b}.Admit(ctx, "nope"); return err }, api.ErrNotFound, "nope"},
			{"revoke", func() error { _, err := hostsBackend{b}.Revoke(ctx, "nope", ""); return err }, api.ErrNotFound, "nope"},
			{"incident", func() error { _, err := incidents{b}.Get(ctx, "nope"); return err }, api.ErrNotFound, "nope"},
			{"acknowledge", func() error { _, err := incidents{b}.Acknowledge(ctx, "nope", "ada", ""); return err }, api.ErrNotFound, "nope"},
			{"explain incident", func() error { _, err := incidents{b}.Explain(ctx, "nope"); return err }, api.ErrNotFound, "nope"},
			{"action", func() error { _, err := actions{b}.Get(ctx, "nope"); return err }, api.ErrNotFound, "nope"},
			{"approve", func() error {
				_, err := actions{b}.Approve(ctx, "nope", api.Approval{Hash: "x", By: "ada"})
				return err
			}, api.ErrNotFound, "nope"},
			{"explain action", func() error { _, err := actions{b}.Explain(ctx, "nope"); return err }, api.ErrNotFound, "nope"},
		} {
			if err := tt.call(); !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%s: %v", tt.name, err)
			}
		}
		if err := translate(nil); err != nil {
			t.Errorf("no error became %v", err)
		}
		if err := translate(context.Canceled); err != context.Canceled { //nolint:errorlint // the very same is meant
			t.Errorf("another error became %v", err)
		}
	})
}

// An overload under a policy of mode approve, as an operator sees it from the first look to the end.
func TestBackendShowsAnOverload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, state.NewMemory(), strings.Replace(shopMap, "mode: auto", "mode: approve", 1))
		defer w.stop()
		b := w.backend()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		a := w.shop()
		a.actor("cpu.weight", command.Target{Cgroup: "/demo/batch"})
		a.run(15)
		a.crowded()
		a.run(4)

		h, err := hostsBackend{b}.Get(ctx, "a")
		if err != nil || h.State != "admitted" || h.Reach != "connected" || !h.Actor.Present || h.Series == 0 || h.CPUs != 2 {
			t.Errorf("%+v, %v", h, err)
		}
		if !slices.ContainsFunc(h.Verdicts, func(v overload.Verdict) bool { return v.Detector == "host-cpu" && v.State.String() == "overloaded" }) {
			t.Errorf("verdicts %+v", h.Verdicts)
		}
		if all, err := (hostsBackend{b}).List(ctx); err != nil || len(all) != 1 || all[0].Name != "a" {
			t.Errorf("%+v, %v", all, err)
		}

		open, err := incidents{b}.List(ctx)
		if err != nil || len(open) != 1 {
			t.Fatalf("%+v, %v", open, err)
		}
		id := open[0].ID
		acknowledged, err := incidents{b}.Acknowledge(ctx, id, "ada", "mine")
		if err != nil || acknowledged.State != incident.Acknowledged || acknowledged.AcknowledgedBy != "ada" {
			t.Errorf("%+v, %v", acknowledged, err)
		}
		e, err := incidents{b}.Explain(ctx, id)
		if err != nil || e.Ref != "incident/"+id || len(e.Gates) == 0 || len(e.Timeline) == 0 {
			t.Errorf("%+v, %v", e, err)
		}
		if !slices.ContainsFunc(e.Candidates, func(c api.Candidate) bool {
			return c.Component == "component/batch" && c.Chosen && c.OnMap && c.Limitable && c.Why != "" && c.Contribution != ""
		}) {
			t.Errorf("candidates %+v", e.Candidates)
		}

		list, err := actions{b}.List(ctx)
		if err != nil || len(list) != 1 {
			t.Fatalf("%+v, %v", list, err)
		}
		x := list[0]
		if x.Phase != "awaiting approval" || x.Component != "component/batch" || x.Protects != "component/server" || x.Value != "10" || x.Risk != "R1" || x.CommandHash == "" || x.Incident != id {
			t.Errorf("%+v", x)
		}
		watch := actions{b}.Watch(ctx)
		if first := <-watch; first.ID != x.ID || first.Phase != x.Phase {
			t.Errorf("the watch begins with %+v", first)
		}
		if _, err := (actions{b}).Approve(ctx, x.ID, api.Approval{Hash: "0000", By: "ada"}); err == nil || len(w.commands(command.Apply)) > 0 {
			t.Errorf("a hash that nobody was shown was approved: %v", err)
		}
		if _, err := (actions{b}).Approve(ctx, x.ID, api.Approval{Hash: x.CommandHash, By: "test"}); !errors.Is(err, api.ErrRefused) || len(w.commands(command.Apply)) > 0 {
			t.Errorf("whoever applied the policy approved what it asks for: %v", err)
		}
		if _, err := (actions{b}).Approve(ctx, x.ID, api.Approval{Hash: x.CommandHash, By: "ada", Key: "nonsense", Signature: []byte("x")}); !errors.Is(err, api.ErrInvalid) {
			t.Errorf("a key that is none: %v", err)
		}
		if x, err = (actions{b}).Approve(ctx, x.ID, api.Approval{Hash: x.CommandHash, By: "ada", Reason: "agreed"}); err != nil || x.Phase != "running" {
			t.Errorf("%+v, %v", x, err)
		}
		synctest.Wait()
		if sent := w.commands(command.Apply); len(sent) != 1 {
			t.Fatalf("%d commands after the approval", len(sent))
		}
		if next := <-watch; next.ID != x.ID || next.Phase != "running" {
			t.Errorf("the watch goes on with %+v", next)
		}
		if e, err := (actions{b}).Explain(ctx, x.ID); err != nil || e.Ref != "action/"+x.ID || !strings.HasPrefix(e.Text, "running: ") || len(e.Candidates) == 0 {
			t.Errorf("%+v, %v", e, err)
		}
		if _, err := (actions{b}).Approve(ctx, x.ID, api.Approval{Hash: x.CommandHash, By: "ada"}); !errors.Is(err, api.ErrConflict) {
			t.Errorf("approved twice: %v", err)
		}
		if _, err := (actions{b}).Deny(ctx, x.ID, "ada", ""); !errors.Is(err, api.ErrConflict) {
			t.Errorf("denied after the approval: %v", err)
		}
		cancel()
		for range watch { // ends with its context
		}
	})
}

func TestBackendControl(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, state.NewMemory(), shopMap)
		defer w.stop()
		b, ctx := w.backend(), t.Context()
		c := control{b}
		if k, err := c.KillSwitch(ctx); err != nil || k.On {
			t.Errorf("%+v, %v", k, err)
		}
		if k, err := c.SetKillSwitch(ctx, true, "ada", "drill"); err != nil || !k.On || k.By != "ada" || k.Reason != "drill" {
			t.Errorf("%+v, %v", k, err)
		}
		if k, err := c.KillSwitch(ctx); err != nil || !k.On || k.At.IsZero() {
			t.Errorf("%+v, %v", k, err)
		}
		if pin, err := identity.ParsePin(c.CAPin()); err != nil || pin != w.roster.CA().Pin() {
			t.Errorf("%s, %v", pin, err)
		}
		if c.ClusterID() != w.roster.CA().Cluster() || c.StartedAt().IsZero() {
			t.Errorf("cluster %q, started %s", c.ClusterID(), c.StartedAt())
		}
		w.connect("a")
		synctest.Wait()
		for name, files := range map[string][]manifest.File{"live": nil, "files": {{Name: "map.yaml", Text: []byte(shopMap)}}} {
			out, problems, err := c.Simulate(ctx, files, map[string]string{"component/server": "critical"}, time.Now(), false)
			var s struct {
				Kind  string
				Nodes []struct{ Ref, Low string }
			}
			if err != nil || len(problems) > 0 || json.Unmarshal(out, &s) != nil || s.Kind != "Simulation" {
				t.Errorf("%s: %s, %v, %v", name, out, problems, err)
			}
			for _, n := range s.Nodes {
				if n.Ref == "service/shop" && n.Low != "critical" {
					t.Errorf("%s: the shop is %s", name, n.Low)
				}
			}
		}
		if _, problems, err := c.Simulate(ctx, []manifest.File{{Name: "bad.yaml", Text: []byte("kind: Servce\n")}}, nil, time.Now(), true); err != nil || len(problems) == 0 {
			t.Errorf("a mistake: %v, %v", problems, err)
		}
	})
}
