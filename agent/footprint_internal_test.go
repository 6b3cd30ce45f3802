package agent

import "testing"

func TestOwnPages(t *testing.T) {
	const exe = "/usr/bin/evenkeel-agent"
	for line, want := range map[string]bool{
		"00400000-00e00000 r-xp 00000000 fe:00 123   /usr/bin/evenkeel-agent\n":           true,
		"00e00000-01800000 r--p 00a00000 fe:00 123   /usr/bin/evenkeel-agent\n":           true,
		"01800000-01900000 rw-p 01400000 fe:00 123   /usr/bin/evenkeel-agent\n":           false, // may have been written to
		"00400000-00e00000 r-xs 00000000 fe:00 123   /usr/bin/evenkeel-agent\n":           false,
		"00400000-00e00000 r-xp 00000000 fe:00 123   /usr/bin/other\n":                    false,
		"00400000-00e00000 r-xp 00000000 fe:00 123   /usr/bin/evenkeel-agent (deleted)\n": false,
		"c000000000-c000400000 rw-p 00000000 00:00 0\n":                                   false,
		"00e00000-00400000 r-xp 00000000 fe:00 123   /usr/bin/evenkeel-agent\n":           false,
		"x-y r-xp 00000000 fe:00 123   /usr/bin/evenkeel-agent\n":                         false,
		"": false,
	} {
		if _, _, ok := ownPages(line, exe); ok != want {
			t.Errorf("%q: %v", line, ok)
		}
	}
	settle() // and the test goes on
}
