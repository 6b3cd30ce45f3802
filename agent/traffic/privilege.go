package traffic

import (
	"bufio"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/evenkeel/evenkeel/pkg/command"
)

// NetAdmin says why this process may not change the network, nil if it may: netlink says so only when it is too late.
func NetAdmin() error {
	f, err := os.Open("/proc/self/status")
	if err != nil {
		return err
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		text, ok := strings.CutPrefix(s.Text(), "CapEff:")
		if !ok {
			continue
		}
		if set, err := strconv.ParseUint(strings.TrimSpace(text), 16, 64); err == nil && set&(1<<unix.CAP_NET_ADMIN) != 0 {
			return nil
		}
	}
	return command.Refuse(command.ReasonNotReversible, "the actor lacks CAP_NET_ADMIN: see docs/traffic.md for the drop-in that grants it")
}
