package link_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/evenkeel/evenkeel/agent/link"
	"github.com/evenkeel/evenkeel/pkg/command"
	agentv1 "github.com/evenkeel/evenkeel/proto/evenkeel/agent/v1"
)

func TestSteadyStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		defer w.start()()
		pass(10 * time.Minute)
		w.verify()
		st := w.link.Status()
		if !st.Connected || st.AckedSeq+6 < w.now() || st.ClockSkew < 2900*time.Millisecond || st.ClockSkew > 3100*time.Millisecond {
			t.Errorf("status %+v at %d", st, w.now())
		}
		w.with(func(c *collector) {
			h := c.hellos[0]
			if c.sessions != 1 || c.resent > 10 || h.GetProtocol() != 1 || h.GetFacts().GetCpus() != 4 || h.GetLabels()["role"] != "web" || h.GetPeriodMs() != 1000 {
				t.Errorf("%d sessions, %d resent, hello %v", c.sessions, c.resent, h)
			}
			if n := count(c.order, "heartbeat"); n < 58 || n > 60 {
				t.Errorf("%d heartbeats in ten minutes", n)
			}
			if n := count(c.order, "ackwanted"); n != 1 {
				t.Errorf("asked for an ack %d times", n)
			}
		})
	})
}

func count(all []string, kind string) (n int) {
	for _, k := range all {
		if k == kind {
			n++
		}
	}
	return n
}

func TestBackfillAfterAnHourOffline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		defer w.start()()
		pass(time.Minute)
		w.net.Cut("agent", "collector")
		pass(time.Hour)
		if st := w.link.Status(); st.Connected || st.Error == "" {
			t.Errorf("an hour into the outage: %+v", st)
		}
		w.net.Heal("agent", "collector")
		pass(5 * time.Minute)
		w.verify()
		w.with(func(c *collector) {
			if c.resent < 3500 || c.resent > 3800 {
				t.Errorf("%d batches resent for an hour", c.resent)
			}
		})
	})
}

// Whatever happens to network and collector, what was spooled arrives, in chains that can be read.
func TestTrouble(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rnd := rand.New(rand.NewPCG(seed, 1))
				w := newWorld(t, func(w *world, cfg *link.Config) { cfg.Rand = rand.New(rand.NewPCG(seed, 2)).Float64 })
				end := w.start()
				defer func() { end() }()
				for range 25 {
					switch rnd.IntN(6) {
					case 0:
						w.net.Cut("agent", "collector")
						pass(time.Duration(rnd.IntN(90)) * time.Second)
						w.net.Heal("agent", "collector")
					case 1:
						w.net.Reset("agent", "collector")
					case 2:
						w.stop()
						pass(time.Duration(rnd.IntN(60)) * time.Second)
						w.listen()
					case 3:
						w.with(func(c *collector) {
							if n := len(c.open); n > 0 {
								c.open[n-1].liveAt = 0
								go c.open[n-1].send(&agentv1.SessionResponse{Message: &agentv1.SessionResponse_KeyFrame{KeyFrame: &agentv1.KeyFrameWanted{Reason: "test"}}})
							}
						})
						pass(time.Second)
						w.with(func(c *collector) { c.problems = nil }) // what was under way could not know
					case 4:
						w.with(func(c *collector) { c.stall = make(chan struct{}) })
						pass(time.Duration(rnd.IntN(60)) * time.Second)
						w.with(func(c *collector) { close(c.stall); c.stall = nil })
					}
					pass(time.Duration(rnd.IntN(120_000)) * time.Millisecond)
				}
				pass(5 * time.Minute)
				w.verify()
			})
		})
	}
}

// A collector that stops reading fills the window and then the live queue; what is left out comes as backfill.
func TestSlowCollector(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.bulk = 20 << 10
		defer w.start()()
		pass(10 * time.Second)
		w.with(func(c *collector) { c.stall = make(chan struct{}) })
		pass(30 * time.Second)
		w.with(func(c *collector) { close(c.stall); c.stall = nil })
		pass(2 * time.Minute)
		w.verify()
		if st := w.link.Status(); st.Overflows == 0 {
			t.Errorf("the queue never overflowed: %+v", st)
		}
	})
}

func TestEarlierBoots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old := link.BootID{0: 3}
		w := newWorld(t, nil)
		for seq := uint64(1); seq <= 500; seq++ {
			key := seq%60 == 1
			w.spool.append(old, record{seq, key, makeFrame(seq, key, 100)})
		}
		defer w.start()()
		pass(2 * time.Minute)
		w.verify()
		w.with(func(c *collector) {
			if got := c.contiguous(old); got != 500 {
				t.Errorf("the earlier boot is there up to %d of 500", got)
			}
			if len(c.hellos[0].GetOlder()) != 1 {
				t.Errorf("hello %v", c.hellos[0])
			}
		})
		if r := w.spool.Ranges(); len(r) != 1 {
			t.Errorf("the spool still holds %v", r)
		}
	})
}

// An agent that was started again and again while its collector was away has more earlier boots than a hello may name.
func TestManyEarlierBoots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const boots = 75
		w := newWorld(t, nil)
		for b := range boots {
			for seq := uint64(1); seq <= 5; seq++ {
				w.spool.append(link.BootID{0: 3, 1: byte(b)}, record{seq, seq == 1, makeFrame(seq, seq == 1, 100)})
			}
		}
		w.with(func(c *collector) {
			c.onHello = func(h *agentv1.Hello) *agentv1.Refusal {
				if len(h.GetOlder()) > 32 {
					return &agentv1.Refusal{Class: agentv1.Refusal_CLASS_STOP, Reason: "too many earlier starts"}
				}
				return nil
			}
		})
		defer w.start()()
		pass(2 * time.Minute)
		w.verify()
		w.with(func(c *collector) {
			for b := range boots {
				if got := c.contiguous(link.BootID{0: 3, 1: byte(b)}); got != 5 {
					t.Errorf("earlier boot %d is there up to %d of 5", b, got)
				}
			}
			if c.sessions != 3 {
				t.Errorf("%d sessions", c.sessions)
			}
		})
		if r := w.spool.Ranges(); len(r) != 1 {
			t.Errorf("the spool still holds %d boots", len(r)-1)
		}
	})
}

// A hello says where sequences begin also when there is nothing in the spool: a tick between hello and welcome would
// otherwise count as one from before.
func TestHelloOfAnEmptySpool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		defer w.start()()
		pass(10 * time.Second)
		w.with(func(c *collector) {
			if h := c.hellos[0]; h.GetSpoolFirstSeq() != 1 || h.GetSpoolLastSeq() != 0 {
				t.Errorf("the first hello of an agent says %d to %d", h.GetSpoolFirstSeq(), h.GetSpoolLastSeq())
			}
		})
	})
}

func TestRefusals(t *testing.T) {
	type step struct {
		class   agentv1.Refusal_Class
		after   time.Duration
		onHello bool
	}
	for name, tt := range map[string]struct {
		step
		check func(t *testing.T, w *world)
	}{
		"retry after": {step{class: agentv1.Refusal_CLASS_RETRY_AFTER, after: 20 * time.Second}, func(t *testing.T, w *world) {
			w.verify()
			w.with(func(c *collector) {
				if c.sessions != 1 || c.resent < 15 {
					t.Errorf("%d sessions, %d resent", c.sessions, c.resent)
				}
			})
		}},
		"drop": {step{class: agentv1.Refusal_CLASS_DROP}, func(t *testing.T, w *world) {
			if st := w.link.Status(); !st.Connected || st.Refused != 12 || st.Refusal != "test" {
				t.Errorf("status %+v", st)
			}
		}},
		"split": {step{class: agentv1.Refusal_CLASS_SPLIT}, func(t *testing.T, w *world) {
			if st := w.link.Status(); !st.Connected || st.Refused != 12 {
				t.Errorf("status %+v", st)
			}
		}},
		"stop": {step{class: agentv1.Refusal_CLASS_STOP}, func(t *testing.T, w *world) {
			if st := w.link.Status(); st.Connected || !strings.Contains(st.Error, "test") {
				t.Errorf("status %+v", st)
			}
			w.with(func(c *collector) {
				if c.sessions != 1 {
					t.Errorf("%d sessions", c.sessions)
				}
			})
			pass(6 * time.Minute)
			w.verify()
		}},
		"come back later": {step{class: agentv1.Refusal_CLASS_RETRY_AFTER, after: time.Minute, onHello: true}, func(t *testing.T, w *world) {
			w.verify()
			w.with(func(c *collector) {
				if c.sessions != 2 {
					t.Errorf("%d sessions", c.sessions)
				}
			})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, nil)
				once := false
				refuse := func(seq uint64) *agentv1.Refusal {
					if once {
						return nil
					}
					once = true
					return &agentv1.Refusal{Class: tt.class, Reason: "test", Seq: seq, Samples: 12, RetryAfterMs: uint32(tt.after.Milliseconds())}
				}
				if tt.onHello {
					w.coll.onHello = func(*agentv1.Hello) *agentv1.Refusal { return refuse(0) }
				} else {
					w.coll.onBatch = func(s *peerSession, b *agentv1.Batch) *agentv1.Refusal {
						if b.GetSeq() < 10 {
							return nil
						}
						r := refuse(b.GetSeq())
						if r != nil {
							s.liveAt = b.GetSeq() + 1
							c := w.coll
							if tt.class == agentv1.Refusal_CLASS_DROP || tt.class == agentv1.Refusal_CLASS_SPLIT {
								c.stored[c.own][b.GetSeq()] = true
							}
						}
						return r
					}
				}
				defer w.start()()
				pass(2 * time.Minute)
				tt.check(t, w)
			})
		})
	}
}

// Control messages overtake backfill; what must last is sent again on the next session; results until they are stored.
func TestControl(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.coll.keeps = false
		end := w.start()
		defer func() { end() }()
		result := func(id string) []byte {
			b, err := proto.Marshal(&agentv1.CommandResult{Id: id, Ordinal: 3, Phase: agentv1.CommandResult_PHASE_APPLIED, Detail: strings.Repeat("x", 100)})
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		w.link.NoActor("none installed")
		w.link.Components([]link.Place{{Component: "component/web", Running: true, Processes: 2, Cgroup: "/web"}})
		w.link.Result("one", 3, result("one"))
		w.link.Result("one", 3, result("one"))
		pass(20 * time.Second)
		w.net.Reset("agent", "collector")
		synctest.Wait()
		w.link.Exit("component/web", 42, time.Now())
		w.with(func(c *collector) { c.keeps = true })
		pass(40 * time.Second)
		w.link.Result("two", 3, result("two"))
		pass(time.Second)
		w.verify()
		w.with(func(c *collector) {
			var ids []string
			for _, r := range c.results {
				ids = append(ids, r.GetId())
			}
			if !slices.Equal(ids, []string{"one", "one", "two"}) || c.results[0].GetOrdinal() != 3 || len(c.results[0].GetDetail()) != 100 {
				t.Errorf("results %v", ids)
			}
			if len(c.actors) != 2 || c.actors[1].GetProblem() != "none installed" || c.actors[1].GetPresent() {
				t.Errorf("actor reports %v", c.actors)
			}
			if len(c.comps) != 2 || c.comps[1].GetPlaces()[0].GetCgroup() != "/web" {
				t.Errorf("component reports %v", c.comps)
			}
			if len(c.exits) != 1 || c.exits[0].GetPid() != 42 {
				t.Errorf("exits %v", c.exits)
			}
		})
		w.mu.Lock()
		defer w.mu.Unlock()
		if !slices.Equal(w.storedID, []string{"one/3", "two/3"}) {
			t.Errorf("stored %v", w.storedID)
		}
	})
}

func TestResultOvertakesBackfill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.coll.initial = 1 << 30
		old := link.BootID{0: 3}
		for seq := uint64(1); seq <= 2000; seq++ {
			w.spool.append(old, record{seq, seq%60 == 1, makeFrame(seq, seq%60 == 1, 4<<10)})
		}
		sent := false
		w.coll.onBatch = func(_ *peerSession, b *agentv1.Batch) *agentv1.Refusal {
			if !sent && b.GetBackfill() {
				sent = true
				w.link.Result("now", 1, nil)
			}
			return nil
		}
		defer w.start()()
		pass(time.Minute)
		w.verify()
		w.with(func(c *collector) {
			at := slices.Index(c.order, "result") - slices.Index(c.order, "backfill")
			// A window of 64 KiB, and what gRPC and the network in memory hold beside it, in batches of 4 KiB.
			if at < 0 || at > 150 {
				t.Errorf("the result came %d batches after it was given", at)
			}
		})
	})
}

func TestFromCollector(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		defer w.start()()
		l, err := w.net.Host("other").Listen("other:22")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		w.net.Cut("agent", "dark")
		pass(5 * time.Second)
		cmd := &agentv1.SignedCommand{Body: []byte("sealed"), Signatures: []*agentv1.Signature{{KeyId: "k", Sig: []byte{1, 2}}}}
		var s *peerSession
		w.with(func(c *collector) { s = c.open[0] })
		s.send(&agentv1.SessionResponse{Message: &agentv1.SessionResponse_Command{Command: cmd}})
		s.send(&agentv1.SessionResponse{Message: &agentv1.SessionResponse_Watch{Watch: &agentv1.WatchList{Watches: []*agentv1.Watch{
			{Component: "component/web", Target: &agentv1.Target{Target: &agentv1.Target_Unit{Unit: "nginx.service"}}},
			{Component: "component/os"},
			{Component: "component/bad", Target: &agentv1.Target{Target: &agentv1.Target_Cgroup{Cgroup: "no slash"}}},
		}}}})
		for _, o := range []*agentv1.ReachOrder{
			{Id: "1", Host: "other", Address: "other:22"},
			{Id: "2", Host: "other", Address: "other:9"},
			{Id: "3", Host: "dark", Address: "dark"},
			{Id: "4", Host: "other", Address: "other"},
		} {
			s.send(&agentv1.SessionResponse{Message: &agentv1.SessionResponse_Reach{Reach: o}})
		}
		pass(5 * time.Second)
		w.mu.Lock()
		defer w.mu.Unlock()
		got := &agentv1.SignedCommand{}
		if len(w.commands) != 1 || proto.Unmarshal(w.commands[0], got) != nil || !proto.Equal(got, cmd) {
			t.Errorf("commands %x", w.commands)
		}
		want := []link.Watch{{Component: "component/web", Target: command.Target{Unit: "nginx.service"}}, {Component: "component/os"}}
		if len(w.watches) != 1 || !slices.Equal(w.watches[0], want) {
			t.Errorf("watches %+v", w.watches)
		}
		w.with(func(c *collector) {
			answers := map[string]bool{}
			for _, r := range c.reaches {
				answers[r.GetId()] = r.GetAnswered()
				if r.GetDetail() == "" {
					t.Errorf("%v says nothing", r)
				}
			}
			if len(answers) != 4 || !answers["1"] || !answers["2"] || answers["3"] || !answers["4"] {
				t.Errorf("reached %v", c.reaches)
			}
		})
	})
}

func TestCertificate(t *testing.T) {
	t.Run("renewed at half life", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, func(w *world, _ *link.Config) { w.id = newHolder(t, w.ca, time.Hour) })
			w.coll.life = time.Hour
			defer w.start()()
			pass(29 * time.Minute)
			w.with(func(c *collector) {
				if c.renewals != 0 {
					t.Errorf("renewed early")
				}
			})
			pass(165 * time.Minute) // half-way between the sixth renewal and the seventh, where no session is about to end
			w.net.Reset("agent", "collector")
			pass(time.Minute)
			w.verify()
			w.with(func(c *collector) {
				if c.renewals != 6 || c.sessions != c.renewals+2 {
					t.Errorf("%d renewals, %d sessions in three hours and a quarter", c.renewals, c.sessions)
				}
			})
		})
	})
	t.Run("expired while away", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, func(w *world, _ *link.Config) { w.id = newHolder(t, w.ca, time.Hour) })
			defer w.start()()
			pass(time.Minute)
			w.net.Cut("agent", "collector")
			pass(2 * time.Hour)
			w.net.Heal("agent", "collector")
			pass(10 * time.Minute)
			w.verify()
			w.with(func(c *collector) {
				if c.renewals != 1 {
					t.Errorf("%d renewals", c.renewals)
				}
			})
		})
	})
	t.Run("another CA", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, func(w *world, _ *link.Config) { w.id = newHolder(t, newAuthority(t), time.Hour) })
			defer w.start()()
			pass(time.Minute)
			if st := w.link.Status(); st.Connected || !strings.Contains(st.Error, "certificate") {
				t.Errorf("status %+v", st)
			}
		})
	})
}

func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.coll.ackAt = time.Hour
		defer w.start()()
		pass(30 * time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		began := time.Now()
		if !w.link.Drain(ctx, w.now()) || time.Since(began) > time.Second {
			t.Errorf("not drained after %v", time.Since(began))
		}
		w.net.Cut("agent", "collector")
		pass(2 * time.Second)
		ctx, cancel = context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		if w.link.Drain(ctx, w.now()) {
			t.Error("drained over a cut link")
		}
	})
}

func TestSpoolHalfFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.spool.limit = 10
		w.coll.ackAt = time.Hour
		defer w.start()()
		pass(time.Minute + time.Second)
		w.with(func(c *collector) {
			if n := count(c.order, "ackwanted"); n < 5 {
				t.Errorf("asked %d times in a minute", n)
			}
		})
	})
}

// A collector that keeps the connection and no longer answers is left.
func TestSilentCollector(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		defer w.start()()
		pass(10 * time.Second)
		w.with(func(c *collector) { c.stall = make(chan struct{}) })
		pass(time.Minute)
		if st := w.link.Status(); st.Connected && st.Since.Before(time.Now().Add(-50*time.Second)) {
			t.Errorf("still in the old session: %+v", st)
		}
		w.with(func(c *collector) { close(c.stall); c.stall = nil })
		pass(3 * time.Minute)
		w.verify()
	})
}

func TestResultQueueIsBounded(t *testing.T) {
	w := newWorld(t, nil)
	for i := range 3000 {
		w.link.Result(fmt.Sprint(i), 1, bytes.Repeat([]byte{1}, 10))
		w.link.Exit("component/x", int32(i), time.Unix(0, 0))
	}
	if st := w.link.Status(); st.Dropped != 3000-1024+3000-64 {
		t.Errorf("dropped %d", st.Dropped)
	}
}
