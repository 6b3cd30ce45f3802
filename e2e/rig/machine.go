package rig

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Inside is where a machine finds the test program and bin/.
const Inside = "/ek"

// insideVariable names the test that the test program runs inside a machine; see RunInside.
const insideVariable = "EK2E_INSIDE"

// verdict is the line by which a machine tells how its test ended.
var verdict = regexp.MustCompile(`ek2e exit (\S+)`)

// job is an init system's job that runs the test program and then turns the machine off.
const job = `[Unit]
Description=the test inside this machine
After=basic.target dbus.service
[Service]
Type=oneshot
Environment=EK2E_INSIDE=%[2]s EK2E_ROOT=%[1]s EK2E_CPU=%[3]s GOMAXPROCS=2
ExecStart=%[1]s/e2e.test -test.v -test.timeout 4m
ExecStopPost=/bin/sh -c 'echo "ek2e exit $EXIT_STATUS" >/dev/console; systemctl poweroff --no-block'
StandardOutput=journal+console
StandardError=journal+console
TimeoutStartSec=300
[Install]
WantedBy=multi-user.target
`

// RunInside runs one of the tests that belong inside a machine, where this program was started as one's job, and ends
// the program; else it returns.
func RunInside(tests map[string]func(*testing.T)) {
	name := os.Getenv(insideVariable)
	if name == "" {
		return
	}
	f, ok := tests[name]
	if !ok {
		fmt.Fprintf(os.Stderr, "there is no test %q for the inside of a machine\n", name)
		os.Exit(2)
	}
	testing.Main(func(string, string) (bool, error) { return true, nil }, []testing.InternalTest{{Name: name, F: f}}, nil, nil)
}

// stock puts the test program and bin/ into a machine's root.
func stock(t testing.TB, root, inside string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	Copy(t, self, filepath.Join(root, Inside, "e2e.test"))
	for _, name := range []string{"evenkeel-actor", "evenkeel-agent", "evenkeel-collector", "evenkeel"} {
		if name == "evenkeel-actor" || inside == "approval" { // the others are large, and a machine's memory is not
			Copy(t, Binary(t, name), filepath.Join(root, Inside, "bin", name))
		}
	}
}

// unneeded are units that only cost time in a machine that lives for a minute on an emulated CPU.
var unneeded = []string{
	"getty.target", "console-getty.service", "serial-getty@ttyS0.service", "systemd-logind.service", "systemd-user-sessions.service",
	"apt-daily.timer", "apt-daily-upgrade.timer", "e2scrub_all.timer", "fstrim.timer", "dpkg-db-backup.timer", "systemd-tmpfiles-clean.timer",
	"systemd-journal-flush.service", "systemd-update-utmp.service", "systemd-update-utmp-runlevel.service", "systemd-sysctl.service",
	"systemd-random-seed.service", "systemd-binfmt.service", "systemd-sysusers.service", "systemd-modules-load.service", "kmod-static-nodes.service",
	"systemd-tmpfiles-setup-dev.service", "systemd-remount-fs.service", "modprobe@.service", "dev-hugepages.mount", "dev-mqueue.mount",
	"sys-kernel-config.mount", "sys-kernel-debug.mount", "sys-kernel-tracing.mount", "sys-fs-fuse-connections.mount",
}

// debian makes a copy of the minimal Debian with a job in it, the actor installed as its package would, and every
// shipped unit in place.
func debian(t testing.TB, inside, controller string) string {
	t.Helper()
	root := filepath.Join(Folder(t), "root")
	Cached(t, "root/.complete")
	Must(t, "cp", "-a", filepath.Dir(Cached(t, "root/.complete")), root)
	stock(t, root, inside)
	Copy(t, Binary(t, "evenkeel-actor"), filepath.Join(root, "usr/bin/evenkeel-actor"))
	Copy(t, Binary(t, "evenkeel-agent"), filepath.Join(root, "usr/bin/evenkeel-agent"))
	units, err := filepath.Glob(filepath.Join(Root(t), "packaging/systemd/*.service"))
	if err != nil || len(units) == 0 {
		t.Fatalf("no units to install: %v", err)
	}
	for _, u := range units {
		Copy(t, u, filepath.Join(root, "etc/systemd/system", filepath.Base(u)))
	}
	Must(t, "cp", "-r", filepath.Join(Root(t), "packaging/systemd/drop-in"), filepath.Join(root, Inside, "drop-in"))
	Write(t, filepath.Join(root, "etc/systemd/system/ek2e.service"), fmt.Sprintf(job, Inside, inside, controller))
	wants := filepath.Join(root, "etc/systemd/system/multi-user.target.wants")
	if err := os.MkdirAll(wants, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/systemd/system/ek2e.service", filepath.Join(wants, "ek2e.service")); err != nil {
		t.Fatal(err)
	}
	for _, unit := range unneeded {
		_ = os.Symlink("/dev/null", filepath.Join(root, "etc/systemd/system", unit))
	}
	if err := os.RemoveAll(filepath.Join(root, "usr/lib/systemd/system-generators")); err != nil {
		t.Fatal(err)
	}
	Write(t, filepath.Join(root, "etc/hostname"), "host-1\n")
	return root
}

// judge shows what was said inside and fails the test unless it passed there.
func judge(t testing.TB, what, output string) {
	t.Helper()
	m := verdict.FindStringSubmatch(output)
	switch {
	case m == nil:
		t.Fatalf("the %s did not come to an end:\n%s", what, tail(output, 6000))
	case m[1] != "0" || !strings.Contains(output, "--- PASS"):
		t.Fatalf("the test inside the %s failed:\n%s", what, tail(output, 12000))
	}
	if os.Getenv("EK2E_KEEP") != "" {
		t.Log(tail(output, 30000))
	}
	for line := range strings.Lines(output) {
		if strings.Contains(line, "--- PASS") || strings.Contains(line, "_test.go:") {
			t.Logf("%s: %s", what, strings.TrimSpace(line))
		}
	}
}

// Container boots systemd as the first process of a container with a root, process ids and network of its own, and runs
// a test inside. The host's own root is never booted from, and no daemon of the host is asked.
func Container(t testing.TB, inside string, patience time.Duration) {
	t.Helper()
	container(t, inside, patience, func(string) {})
}

// TrafficContainer is such a container with nginx, nft and tc.
func TrafficContainer(t testing.TB, inside string, patience time.Duration) {
	t.Helper()
	container(t, inside, patience, func(root string) {
		for _, name := range []string{"nginx", "nft", "tc"} {
			program(t, name, root, "usr/sbin")
		}
		for _, dir := range []string{"etc/nginx/conf.d", "var/log/nginx", "var/lib/nginx"} {
			if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func container(t testing.TB, inside string, patience time.Duration, more func(root string)) {
	t.Helper()
	root := debian(t, inside, "absent")
	more(root)
	// nspawn makes groups for itself and the container below the group that it is started in.
	enter, name := "", filepath.Base(filepath.Dir(root)) // one name in all hierarchies, for it mirrors its own in the others
	for _, mount := range []string{"/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified", "/sys/fs/cgroup"} {
		if _, err := os.Stat(filepath.Join(mount, "cgroup.procs")); err == nil {
			enter += fmt.Sprintf("echo $$ >%s/cgroup.procs && ", nest(t, filepath.Join(mount, name)))
		}
	}
	cmd := exec.Command("sh", "-c", enter+`exec "$@"`, "sh", "systemd-nspawn", "--quiet", "-D", root, "--machine=ek2e", "--register=no", "--keep-unit",
		"--private-network", "--resolv-conf=off", "--timezone=off", "--link-journal=no", "--console=read-only", "--boot")
	p := StartCmd(t, cmd)
	wait(t, p, patience, "container")
	judge(t, "container", p.Output())
}

// nest makes a cgroup that is removed with all below it when the test ends.
func nest(t testing.TB, dir string) string {
	t.Helper()
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		Until(t, 5*time.Second, "the machine's cgroups are gone", func() string {
			var last error
			var all []string
			_ = filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
				if err == nil && d.IsDir() {
					all = append(all, p)
				}
				return nil
			})
			for _, p := range slices.Backward(all) { // children before their parents
				if err := syscall.Rmdir(p); err != nil {
					last = err
				}
			}
			if last != nil {
				return last.Error()
			}
			return ""
		})
	})
	return dir
}

// VM is a virtual machine without a disk: the kernel and one archive as its root.
type VM struct {
	Root   string // folder that becomes the root
	Init   string // first program
	Memory int    // MiB
	CPUs   int
	Disk   int // MiB of an empty disk; 0: none
}

// Run boots the machine, waits until it turns itself off and returns what it said.
func (vm VM) Run(t testing.TB, patience time.Duration) string {
	t.Helper()
	archive := filepath.Join(Folder(t), "root.cpio")
	pack := exec.Command("sh", "-c", `find . -print0 | cpio --quiet -0 -o -H newc >"$1"`, "sh", archive)
	pack.Dir = vm.Root
	if out, err := pack.CombinedOutput(); err != nil {
		t.Fatalf("cannot pack the machine's root: %v\n%s", err, out)
	}
	disk := []string{}
	if vm.Disk > 0 {
		image := filepath.Join(filepath.Dir(archive), "disk")
		Write(t, image, "")
		if err := os.Truncate(image, int64(vm.Disk)<<20); err != nil {
			t.Fatal(err)
		}
		disk = []string{"-drive", "file=" + image + ",if=none,id=d0,format=raw,cache=writeback", "-device", "nvme,drive=d0,serial=1"} // its driver is in the kernel itself
	}
	p := StartCmd(t, exec.Command("qemu-system-x86_64", append(disk, "-accel", "tcg,thread=multi", "-m", strconv.Itoa(vm.Memory), "-smp", strconv.Itoa(vm.CPUs),
		"-kernel", Cached(t, "kernel/vmlinuz"), "-initrd", archive, "-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio",
		"-no-reboot", "-append", "console=ttyS0 quiet loglevel=3 panic=-1 mitigations=off random.trust_cpu=on rdinit="+vm.Init)...))
	wait(t, p, patience, "virtual machine")
	return p.Output()
}

func wait(t testing.TB, p *Process, patience time.Duration, what string) {
	t.Helper()
	began := time.Now()
	select {
	case <-p.Done():
		t.Logf("%s: from start to power-off %s", what, time.Since(began).Round(100*time.Millisecond))
	case <-time.After(patience):
		t.Errorf("the %s did not turn itself off within %s", what, patience)
		p.End()
	}
}

// init of a machine without an init system: the kernel's file systems, and then the tests of the wanted names.
const plainInit = `#!/bin/busybox sh
export PATH=/bin EK2E_ROOT=%[1]s EK2E_SLOW=1
/bin/busybox mkdir -p /proc /sys /dev /tmp /run
/bin/busybox mount -t proc proc /proc
/bin/busybox --install -s /bin
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
ln -s /proc/self/fd /dev/fd
mount -t tmpfs -o mode=1777 tmpfs /tmp
mount -t cgroup2 cgroup2 /sys/fs/cgroup
for c in cpu cpuset io memory pids; do echo +$c >/sys/fs/cgroup/cgroup.subtree_control; done
ip link set lo up
for m in $(cat /modules 2>/dev/null); do depmod && modprobe $m; done
%[3]s %[1]s/e2e.test -test.v -test.timeout 3m -test.run '%[2]s'
echo "ek2e exit $?"
poweroff -f
`

// PlainVM runs tests of this program in a virtual machine with cgroups of version 2 and nothing but busybox.
func PlainVM(t testing.TB, tests string, patience time.Duration) {
	t.Helper()
	plainVM(t, tests, "", patience, func(string) {})
}

// IPVSVM runs a test that belongs inside in such a machine, whose kernel has loaded its load balancer, with ipvsadm.
func IPVSVM(t testing.TB, inside string, patience time.Duration) {
	t.Helper()
	plainVM(t, ".", insideVariable+"="+inside, patience, func(root string) {
		if err := os.MkdirAll(filepath.Join(root, "lib"), 0o755); err != nil {
			t.Fatal(err)
		}
		Must(t, "cp", "-a", Cached(t, "kernel/modules"), filepath.Join(root, "lib", "modules"))
		Write(t, filepath.Join(root, "modules"), "ip_vs\nip_vs_wrr\n")
		program(t, "ipvsadm", root, "bin")
	})
}

// program puts a program of this machine into a folder of a root, and the libraries that it needs and that are not there.
func program(t testing.TB, name, root, folder string) {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatal(err)
	}
	Copy(t, path, filepath.Join(root, folder, name))
	for _, lib := range library.FindAllString(Must(t, "ldd", path), -1) {
		if _, err := os.Stat(filepath.Join(root, lib)); err != nil {
			Copy(t, lib, filepath.Join(root, lib))
		}
	}
}

// library is a path as ldd prints it.
var library = regexp.MustCompile(`/\S+\.so\S*`)

func plainVM(t testing.TB, tests, environment string, patience time.Duration, more func(root string)) {
	t.Helper()
	root := filepath.Join(Folder(t), "root")
	stock(t, root, "")
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal(err)
	}
	Copy(t, busybox, filepath.Join(root, "bin/busybox"))
	more(root)
	Write(t, filepath.Join(root, "init"), fmt.Sprintf(plainInit, Inside, tests, environment))
	if err := os.Chmod(filepath.Join(root, "init"), 0o755); err != nil {
		t.Fatal(err)
	}
	judge(t, "virtual machine", VM{Root: root, Init: "/init", Memory: 768, CPUs: 2, Disk: 64}.Run(t, patience))
}

// SystemdVM boots the minimal Debian's systemd in a virtual machine, with a cpu controller that is its own, and runs a
// test inside.
func SystemdVM(t testing.TB, inside string, patience time.Duration) {
	t.Helper()
	root := debian(t, inside, "present")
	judge(t, "virtual machine", VM{Root: root, Init: "/lib/systemd/systemd", Memory: 1536, CPUs: 2}.Run(t, patience))
}
