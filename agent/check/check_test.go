package check_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evenkeel/evenkeel/agent/check"
	"github.com/evenkeel/evenkeel/pkg/memnet"
)

func TestValidate(t *testing.T) {
	for _, tt := range []struct {
		spec check.Spec
		want string
	}{
		{check.Spec{Kind: "http", Address: "http://127.0.0.1:8080/healthz"}, ""},
		{check.Spec{Kind: "http", Address: "https://web.example/", Status: 204}, ""},
		{check.Spec{Kind: "tcp", Address: "[::1]:5432"}, ""},
		{check.Spec{Kind: "tcp", Address: "db:0"}, "host:port"},
		{check.Spec{Kind: "tcp", Address: "db"}, "host:port"},
		{check.Spec{Kind: "tcp", Address: "db:1", Status: 200}, "no status"},
		{check.Spec{Kind: "http", Address: "file:///etc/passwd"}, "not an http"},
		{check.Spec{Kind: "http", Address: "http://u:p@web/"}, "credentials"},
		{check.Spec{Kind: "http", Address: "http://web/", Status: 42}, "not an HTTP status"},
		{check.Spec{Kind: "exec", Address: "rm"}, "unknown kind"},
		{check.Spec{Kind: "tcp", Address: "db:1", Timeout: time.Minute}, "timeout"},
		{check.Spec{Kind: "http", Address: "http://" + strings.Repeat("x", 3000)}, "characters"},
	} {
		err := tt.spec.Validate()
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%+v: %v, want %q", tt.spec, err, tt.want)
		}
	}
}

// serve answers on host:port of the network until the test ends.
func serve(t *testing.T, n *memnet.Network, host, port string, h http.HandlerFunc) {
	t.Helper()
	l, err := n.Host(host).Listen(host + ":" + port)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: h}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close() })
}

func asker(n *memnet.Network) *check.Asker {
	return check.NewAsker(n.Host("here").DialContext)
}

func TestAsk(t *testing.T) {
	tests := map[string]struct {
		spec   check.Spec
		up     bool
		detail string
		took   time.Duration
	}{
		"ok":                   {check.Spec{Kind: "http", Address: "http://web:80/ok"}, true, "200 OK", 0},
		"slow":                 {check.Spec{Kind: "http", Address: "http://web:80/slow"}, true, "200 OK", 2 * time.Second},
		"never":                {check.Spec{Kind: "http", Address: "http://web:80/never"}, false, "no answer in time", 5 * time.Second},
		"own timeout":          {check.Spec{Kind: "http", Address: "http://web:80/slow", Timeout: time.Second}, false, "no answer in time", time.Second},
		"error":                {check.Spec{Kind: "http", Address: "http://web:80/broken"}, false, "503 Service Unavailable", 0},
		"expected status":      {check.Spec{Kind: "http", Address: "http://web:80/broken", Status: 503}, true, "503 Service Unavailable", 0},
		"other status":         {check.Spec{Kind: "http", Address: "http://web:80/ok", Status: 204}, false, "200 OK, expected 204", 0},
		"redirect here":        {check.Spec{Kind: "http", Address: "http://web:80/moved"}, true, "200 OK", 0},
		"redirect elsewhere":   {check.Spec{Kind: "http", Address: "http://web:80/away"}, false, "redirect to another host, other:80, is not followed", 0},
		"redirect in a circle": {check.Spec{Kind: "http", Address: "http://web:80/circle"}, false, "too many redirects", 0},
		"endless body":         {check.Spec{Kind: "http", Address: "http://web:80/endless"}, true, "200 OK", 0},
		"refused":              {check.Spec{Kind: "http", Address: "http://web:81/"}, false, "connection refused", 0},
		"tcp":                  {check.Spec{Kind: "tcp", Address: "web:80"}, true, "connected", 0},
		"tcp refused":          {check.Spec{Kind: "tcp", Address: "web:81"}, false, "connection refused", 0},
		"tcp cut off":          {check.Spec{Kind: "tcp", Address: "lost:80"}, false, "no answer in time", 5 * time.Second},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := memnet.New()
				defer n.Close()
				n.Cut("here", "lost")
				serve(t, n, "web", "80", pages)
				serve(t, n, "other", "80", func(http.ResponseWriter, *http.Request) { t.Error("the other host was asked") })
				began := time.Now()
				r := asker(n).Ask(t.Context(), tt.spec)
				if r.Up != tt.up || r.Detail != tt.detail {
					t.Errorf("%+v, want up %v, %q", r, tt.up, tt.detail)
				}
				if took := time.Since(began); took != tt.took || r.Duration != tt.took {
					t.Errorf("took %v, said %v, want %v", took, r.Duration, tt.took)
				}
			})
		})
	}
}

func pages(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") != "" || r.ContentLength > 0 {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	switch r.URL.Path {
	case "/slow":
		wait(r.Context(), 2*time.Second)
	case "/never":
		wait(r.Context(), time.Hour)
	case "/broken":
		w.WriteHeader(http.StatusServiceUnavailable)
	case "/moved":
		http.Redirect(w, r, "/ok", http.StatusFound)
	case "/away":
		http.Redirect(w, r, "http://other:80/ok", http.StatusFound)
	case "/circle":
		http.Redirect(w, r, "/circle", http.StatusFound)
	case "/endless":
		for {
			if _, err := io.WriteString(w, strings.Repeat("x", 4096)); err != nil {
				return
			}
		}
	}
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// A peer that accepts and says nothing ends with the timeout too.
func TestSilentPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New()
		defer n.Close()
		l, err := n.Host("mute").Listen("mute:80")
		if err != nil {
			t.Fatal(err)
		}
		var held []net.Conn
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				held = append(held, c)
			}
		}()
		if r := asker(n).Ask(t.Context(), check.Spec{Kind: "http", Address: "http://mute:80/"}); r.Up || r.Detail != "no answer in time" {
			t.Errorf("%+v", r)
		}
	})
}
