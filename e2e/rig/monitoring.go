package rig

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/evenkeel/evenkeel/pkg/client"
)

// Foreign returns a command of a program of the unpacked Debian packages of other monitoring systems, by its path in them. It sees their
// /usr/share beside that of this machine, which stays as it is.
func Foreign(t testing.TB, path string, args ...string) *exec.Cmd {
	t.Helper()
	root := Cached(t, "monitoring/root")
	script := `mount -t overlay overlay -o "lowerdir=$1/usr/share:/usr/share" /usr/share && shift && exec "$@"`
	cmd := exec.Command("unshare", append([]string{"--mount", "sh", "-c", script, "sh", root, filepath.Join(root, path)}, args...)...)
	cmd.Env = append(os.Environ(), "LD_LIBRARY_PATH="+filepath.Join(root, "usr/lib/x86_64-linux-gnu"))
	return cmd
}

// WithEtc has a command of Foreign see the files of a folder over those of /etc.
func WithEtc(cmd *exec.Cmd, folder string) *exec.Cmd {
	const within = `mount -t overlay overlay -o "lowerdir=$1:/etc" /etc && shift && exec "$@"`
	for i, a := range cmd.Args { // after the words of Foreign's own script come its root, and the program
		if a == "sh" && i > 0 && cmd.Args[i-2] == "-c" {
			cmd.Args = append(append(append([]string{}, cmd.Args[:i+2]...), "sh", "-c", within, "sh", folder), cmd.Args[i+2:]...)
			break
		}
	}
	return cmd
}

// Free returns an address of this machine with a port that nobody has now.
func Free(t testing.TB) string { return free(t, "127.0.0.1") }

// Configure adds to the collector's configuration, before Run.
func (c *Collector) Configure(t testing.TB, yaml string) {
	t.Helper()
	Write(t, c.config, Read(t, c.config)+"\n"+yaml)
}

// REST returns the base of the collector's REST interface.
func (c *Collector) REST(t testing.TB) string {
	t.Helper()
	conf, err := client.Load(c.Context)
	if err != nil {
		t.Fatal(err)
	}
	return conf.REST
}

// Token makes an operator's token of a role and returns it, and a file that holds it.
func (c *Collector) Token(t testing.TB, role string) (text, file string) {
	t.Helper()
	out, errs, code := c.Evenkeel(t, "token", "create", "--role", role, "--name", role, "--ttl", "1h")
	if code != 0 {
		t.Fatalf("token create: %s", errs)
	}
	file = filepath.Join(Folder(t), "token")
	if err := os.WriteFile(file, []byte(out), 0o600); err != nil {
		t.Fatal(err)
	}
	return Read(t, file), file
}

// Answers waits until a page answers with 200.
func Answers(t testing.TB, url string) {
	t.Helper()
	Until(t, 30*time.Second, url+" answers", func() string {
		r, err := http.Get(url)
		if err != nil {
			return err.Error()
		}
		defer r.Body.Close()
		if r.StatusCode != http.StatusOK {
			return fmt.Sprint(r.StatusCode)
		}
		return ""
	})
}
