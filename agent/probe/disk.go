package probe

import (
	"strings"
	"time"

	"github.com/evenkeel/evenkeel/pkg/metric"
)

// disk reads /proc/diskstats for whole disks. Partitions, loop and RAM disks are left out: they repeat what their disk
// says, or nothing.
type disk struct {
	base
	file file
	rows rows
}

// diskColumns are the columns after the device's name, in the kernel's order. Kernels before 4.18 stop at 11, before 5.5
// at 15.
var diskColumns = [...]struct {
	name  string
	scale metric.Scale
}{
	{"reads_completed_total", one},
	{"reads_merged_total", one},
	{"read_bytes_total", metric.Scale{Mul: 512}},
	{"read_time_seconds_total", millis},
	{"writes_completed_total", one},
	{"writes_merged_total", one},
	{"written_bytes_total", metric.Scale{Mul: 512}},
	{"write_time_seconds_total", millis},
	{"io_now", one},
	{"io_time_seconds_total", millis},
	{"io_time_weighted_seconds_total", millis},
	{"discards_completed_total", one},
	{"discards_merged_total", one},
	{"discarded_sectors_total", one},
	{"discard_time_seconds_total", millis},
	{"flush_requests_total", one},
	{"flush_requests_time_seconds_total", millis},
}

func newDisk(r *reader, proc string) *disk {
	d := &disk{base: base{"disk", groupDisk, fast, r}, file: newFile(proc+"/diskstats", true)}
	d.rows.make = func(device string) []metric.Desc {
		if !wholeDisk(device) {
			return nil
		}
		var l []metric.Desc
		for _, c := range diskColumns {
			l = append(l, d.desc("node_disk_"+c.name, c.scale, "device", device))
		}
		return l
	}
	return d
}

// wholeDisk tells disks from their partitions (sda1, nvme0n1p2, mmcblk0p1) and from loop, RAM and floppy disks.
func wholeDisk(device string) bool {
	letters := 0
	for letters < len(device) && (device[letters] < '0' || device[letters] > '9') {
		letters++
	}
	switch device[:letters] {
	case "", "loop", "ram", "zram", "fd":
		return false
	case "nvme", "mmcblk", "nbd":
		for i := letters; i+1 < len(device); i++ {
			if device[i] == 'p' {
				return false
			}
		}
		return true
	default:
		return letters == len(device) || !strings.HasPrefix(device, "sd") && !strings.HasPrefix(device, "hd") &&
			!strings.HasPrefix(device, "vd") && !strings.HasPrefix(device, "xvd")
	}
}

func (d *disk) Read(t *metric.Table, _ time.Time) error {
	b, err := d.r.read(&d.file)
	if err == nil {
		err = d.parse(t, b)
	}
	if err != nil {
		d.rows.end(t)
	}
	return err
}

// parse reads lines of major, minor, name and up to 17 numbers.
func (d *disk) parse(t *metric.Table, b []byte) error {
	d.rows.begin()
	for len(b) > 0 {
		var line []byte
		line, b = cutLine(b)
		_, rest := cutField(line)
		_, rest = cutField(rest)
		name, rest := cutField(rest)
		if len(name) == 0 {
			return errFormat
		}
		w := d.rows.find(t, name)
		if w == nil || len(w.slots) == 0 {
			continue
		}
		i, ok := 0, false
		for c, s := range w.slots {
			var v int64
			if v, i, ok = number(rest, i); !ok {
				if c < 11 {
					return errFormat
				}
				// This kernel has no such column, now or later.
				for _, s := range w.slots[c:] {
					t.End(s)
				}
				w.slots = w.slots[:c]
				break
			}
			t.Set(s, v)
		}
	}
	d.rows.done(t)
	return nil
}

func (d *disk) files() []File { return []File{{d.file.name(), d.period, OpRead}} }
func (d *disk) close()        { d.file.close() }
