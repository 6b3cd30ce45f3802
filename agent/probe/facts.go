package probe

import (
	"context"
	"fmt"
	"runtime"
	"time"

	hostcpu "github.com/shirou/gopsutil/v3/cpu"
	"github.com/shirou/gopsutil/v3/host"
	"github.com/shirou/gopsutil/v3/mem"
)

// Facts are what a host says of itself once, when its agent starts.
type Facts struct {
	Hostname string
	OS       string // "linux"
	Platform string // "debian 12.5"
	Kernel   string
	Arch     string // "amd64"
	BootTime time.Time
	CPUs     int
	Memory   uint64 // bytes
	Cgroup   string // "v1", "v2", "hybrid" or "none"
}

// ReadFacts asks the host for its facts. It may take tens of milliseconds. cgroup is where the cgroup file systems stand,
// "" for the usual place.
func ReadFacts(ctx context.Context, cgroup string) (Facts, error) {
	if cgroup == "" {
		cgroup = "/sys/fs/cgroup"
	}
	info, err := host.InfoWithContext(ctx)
	if err != nil {
		return Facts{}, fmt.Errorf("cannot read the facts of this host: %w", err)
	}
	memory, err := mem.VirtualMemoryWithContext(ctx)
	if err != nil {
		return Facts{}, fmt.Errorf("cannot read the facts of this host: %w", err)
	}
	cpus, err := hostcpu.CountsWithContext(ctx, true)
	if err != nil || cpus == 0 {
		cpus = runtime.NumCPU()
	}
	f := Facts{
		Hostname: info.Hostname, OS: info.OS, Platform: info.Platform, Kernel: info.KernelVersion, Arch: runtime.GOARCH,
		BootTime: time.Unix(int64(info.BootTime), 0).UTC(), CPUs: cpus, Memory: memory.Total,
		Cgroup: findLayout(cgroup).version,
	}
	if info.PlatformVersion != "" {
		f.Platform += " " + info.PlatformVersion
	}
	return f, nil
}
