package command

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
)

// sysctls are the kernel parameters that can be set: single numbers that can be set back as they were. Switches that only
// go one way, and those that change others with them, are not among them.
var sysctls = []string{
	"fs.file-max",
	"fs.inotify.max_user_instances",
	"fs.inotify.max_user_watches",
	"net.core.netdev_budget",
	"net.core.netdev_budget_usecs",
	"net.core.netdev_max_backlog",
	"net.core.optmem_max",
	"net.core.rmem_max",
	"net.core.somaxconn",
	"net.core.wmem_max",
	"net.ipv4.tcp_fin_timeout",
	"net.ipv4.tcp_keepalive_intvl",
	"net.ipv4.tcp_keepalive_probes",
	"net.ipv4.tcp_keepalive_time",
	"net.ipv4.tcp_max_orphans",
	"net.ipv4.tcp_max_syn_backlog",
	"net.ipv4.tcp_max_tw_buckets",
	"net.ipv4.tcp_notsent_lowat",
	"net.ipv4.tcp_retries2",
	"net.ipv4.tcp_slow_start_after_idle",
	"net.ipv4.tcp_syn_retries",
	"net.ipv4.tcp_synack_retries",
	"net.ipv4.tcp_syncookies",
	"net.ipv4.tcp_tw_reuse",
	"net.netfilter.nf_conntrack_max",
	"vm.min_free_kbytes",
	"vm.swappiness",
	"vm.vfs_cache_pressure",
	"vm.watermark_scale_factor",
}

// Sysctls returns the names of the kernel parameters that can be set, sorted.
func Sysctls() []string { return slices.Clone(sysctls) }

// nameForm is what a place or a plugin is called.
var nameForm = regexp.MustCompile(`\A[a-z0-9][a-z0-9-]{0,62}\z`)

// ValidName reports whether a host may call a place or a plugin so: 1 to 63 of a-z, 0-9 and dash.
func ValidName(s string) bool { return nameForm.MatchString(s) }

func validSysctl(s string) error {
	if !slices.Contains(sysctls, s) {
		return fmt.Errorf("sysctl %q is not one that can be set: those are %s", clip(s), strings.Join(sysctls, ", "))
	}
	return nil
}

func validPlace(s string) error {
	if !ValidName(s) {
		return fmt.Errorf("place %q is not a name: 1 to 63 of a-z, 0-9 and dash", clip(s))
	}
	return nil
}

// pluginPrefix stands before the name of a program that a host declares.
const pluginPrefix = "plugin:"

// Plugin returns the name in an action "plugin:NAME".
func Plugin(action string) (string, bool) {
	name, is := strings.CutPrefix(action, pluginPrefix)
	return name, is && ValidName(name)
}

// plugin is the row of a program that a host declares. Which targets it takes and between which values, its permissions say.
func plugin(name string) Spec {
	return Spec{
		Name: pluginPrefix + name, Risk: R2, Unit: "as the program counts it", Min: math.MinInt32, Max: math.MaxInt32,
		Targets: []TargetKind{OnHost, OnUnit, OnCgroup, OnProcess, OnPort, OnPlace}, Title: "have the host's own program " + name + " set a value",
	}
}
