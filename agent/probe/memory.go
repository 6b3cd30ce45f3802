package probe

import (
	"strings"
	"time"

	"github.com/evenkeel/evenkeel/pkg/metric"
)

// keyedFile is a probe of one file of keyed lines.
type keyedFile struct {
	base
	file  file
	keyed keyed
}

func (k *keyedFile) Read(t *metric.Table, _ time.Time) error {
	b, err := k.r.read(&k.file)
	if err == nil {
		err = k.keyed.parse(t, b)
	}
	if err != nil {
		k.keyed.end(t)
	}
	return err
}

func (k *keyedFile) files() []File { return []File{{k.file.name(), k.period, OpRead}} }
func (k *keyedFile) close()        { k.file.close() }

// newMemory reads /proc/meminfo, whole: what does not change costs nothing on the wire.
func newMemory(r *reader, proc string) *keyedFile {
	p := &keyedFile{base: base{"memory", groupMemory, fast, r}, file: newFile(proc+"/meminfo", false)}
	p.keyed.pick = func(key, line string) (metric.Desc, bool) {
		name := "node_memory_" + strings.NewReplacer("(", "_", ")", "").Replace(key)
		if strings.HasSuffix(line, " kB") {
			return p.desc(name+"_bytes", kibi), true
		}
		return p.desc(name, one), true
	}
	return p
}

// newVMStat reads /proc/vmstat, the dearest file to read, for the keys that tell of paging, reclaim and OOM kills.
func newVMStat(r *reader, proc string) *keyedFile {
	p := &keyedFile{base: base{"vmstat", groupVMStat, fast, r}, file: newFile(proc+"/vmstat", true)}
	p.keyed.pick = func(key, _ string) (metric.Desc, bool) {
		switch key {
		case "pswpin", "pswpout", "pgpgin", "pgpgout", "pgfault", "pgmajfault", "oom_kill":
			return p.desc("node_vmstat_"+key, one), true
		}
		for _, prefix := range []string{"allocstall", "pgscan", "pgsteal", "workingset_refault"} {
			if strings.HasPrefix(key, prefix) {
				return p.desc("node_vmstat_"+key, one), true
			}
		}
		return metric.Desc{}, false
	}
	return p
}
