package main

import (
	"math"
	"testing"

	"github.com/golang/snappy"
	"google.golang.org/protobuf/encoding/protowire"
)

// fields splits a message into its fields, of the three wire types that remote write has.
func fields(t *testing.T, b []byte, each func(num protowire.Number, bytes []byte, number uint64)) {
	t.Helper()
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			t.Fatal("not a message")
		}
		b = b[n:]
		var bytes []byte
		var number uint64
		switch typ {
		case protowire.BytesType:
			bytes, n = protowire.ConsumeBytes(b)
		case protowire.Fixed64Type:
			number, n = protowire.ConsumeFixed64(b)
		default:
			number, n = protowire.ConsumeVarint(b)
		}
		if n < 0 {
			t.Fatalf("field %d ends early", num)
		}
		b = b[n:]
		each(num, bytes, number)
	}
}

// The request of a host and tick holds the values that our own agents send for it, under the names that our store gives.
func TestRequest(t *testing.T) {
	l := makeLoad(settings{hosts: 3, series: 7, ticks: 4, warm: 2})
	w := newWriter(l)
	const host, tick = 2, 5
	_, packed := w.request(host, tick, nil, nil)
	raw, err := snappy.Decode(nil, packed)
	if err != nil {
		t.Fatal(err)
	}
	i := 0
	fields(t, raw, func(num protowire.Number, series []byte, _ uint64) {
		labels, last := map[string]string{}, ""
		fields(t, series, func(num protowire.Number, b []byte, _ uint64) {
			var parts []string
			fields(t, b, func(inner protowire.Number, text []byte, number uint64) {
				switch {
				case num == 1:
					parts = append(parts, string(text))
				case inner == 1:
					if v := math.Float64frombits(number); v != l.values[tick][i] {
						t.Errorf("series %d reads %g, want %g", i, v, l.values[tick][i])
					}
				case number != uint64(l.at[tick].UnixMilli()):
					t.Errorf("series %d is at %d, want %d", i, number, l.at[tick].UnixMilli())
				}
			})
			if num == 1 {
				if parts[0] <= last {
					t.Errorf("label %s follows %s", parts[0], last)
				}
				labels[parts[0]], last = parts[1], parts[0]
			}
		})
		d := l.series[i]
		device, _ := d.Label("device")
		for name, want := range map[string]string{"__name__": d.Name, "instance": "host-3", "job": "node", "device": device} {
			if labels[name] != want {
				t.Errorf("series %d has %s=%q, want %q", i, name, labels[name], want)
			}
		}
		i++
	})
	if i != len(l.series) {
		t.Errorf("%d series, want %d", i, len(l.series))
	}
}
