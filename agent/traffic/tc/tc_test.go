package tc

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/vishvananda/netlink"
)

func TestSpeedOfACard(t *testing.T) {
	s := shape{t.TempDir()}
	if err := os.MkdirAll(filepath.Join(s.sys, "eth0"), 0o755); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]int64{"1000\n": 1000000, "-1\n": unknown, "": unknown} {
		if err := os.WriteFile(filepath.Join(s.sys, "eth0", "speed"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if got := s.speed("eth0"); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
	if got := s.speed("veth0"); got != unknown {
		t.Errorf("a card that does not say: %d", got)
	}
}

// Every rate that the catalogue takes makes a bucket whose numbers fit what the kernel has for them, and that lets at
// least one packet of any size through.
func TestBucketHoldsForEveryRate(t *testing.T) {
	link := &netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Index: 3}}
	for kbit := uint64(8); kbit <= 400000000; kbit = kbit*3/2 + 1 {
		b := bucket(link, kbit)
		if b.Rate != kbit*bytesPer || b.Rate/bytesPer != kbit {
			t.Fatalf("%d kbit/s became %d bytes/s", kbit, b.Rate)
		}
		// What the kernel makes of the time in the bucket, in bytes.
		if burst := netlink.Xmitsize(b.Rate, b.Buffer); burst < leastBurst*9/10 || uint64(b.Limit) < uint64(burst) {
			t.Fatalf("%d kbit/s: burst %d of %d bytes", kbit, burst, b.Limit)
		}
	}
}
