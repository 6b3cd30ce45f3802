package poll

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// State is what is known of a part that is checked.
type State uint8

// The states of a checked part.
const (
	Unsure State = iota // not enough is known to say more
	Up
	Down
)

// strikes remembers of each check what is needed to tell a part that is down from a way out of this host that is cut.
type strikes map[string]*record

type record struct {
	up       bool
	lastUp   time.Time
	failures int
	since    time.Time // of the first failure in a row
}

func (s strikes) keep(items map[string]*task) {
	for key := range s {
		if items[key] == nil {
			delete(s, key)
		}
	}
}

// judge takes in one answer. A part is down when it did not answer twice in a row while another part did in between, or when it is the
// only one: where nobody answers, it is our own way that is in doubt.
func (s strikes) judge(key string, up bool, detail string, now time.Time) (State, string) {
	r := s[key]
	if r == nil {
		r = &record{}
		s[key] = r
	}
	if up {
		r.up, r.lastUp, r.failures = true, now, 0
		return Up, detail
	}
	if r.failures++; r.failures == 1 {
		r.since = now
		if r.up {
			return Up, "did not answer once: " + detail
		}
		return Unsure, "did not answer once: " + detail
	}
	r.up = false
	others := 0
	for other, o := range s {
		if other == key {
			continue
		}
		others++
		if !o.lastUp.Before(r.since) {
			return Down, detail
		}
	}
	if others == 0 {
		return Down, detail
	}
	return Unsure, detail + "; no other external part answers either, so the way out of the collector may be cut"
}

// Asker is the Checker that asks over the network: a URL by GET, whose answer is below 400, or a TCP connection. It sends no credentials
// and follows no redirect to another host.
type Asker struct{ client *http.Client }

const maxRedirects = 5

// NewAsker returns one.
func NewAsker() *Asker {
	return &Asker{client: &http.Client{
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: 64 << 10,
			TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12},
		},
		CheckRedirect: func(next *http.Request, via []*http.Request) error {
			if next.URL.Host != via[0].URL.Host {
				return fmt.Errorf("redirect to another host, %s, is not followed", next.URL.Host)
			}
			if len(via) > maxRedirects {
				return errors.New("too many redirects")
			}
			return nil
		},
	}}
}

// Check makes one check.
func (a *Asker) Check(ctx context.Context, item Item) (up bool, detail string) {
	if item.TCP != "" {
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", item.TCP)
		if err != nil {
			return false, reason(err)
		}
		_ = c.Close()
		return true, "connected"
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, item.HTTP, nil)
	if err != nil {
		return false, reason(err)
	}
	r.Header.Set("User-Agent", "evenkeel-collector")
	resp, err := a.client.Do(r)
	if err != nil {
		return false, reason(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, io.LimitReader(resp.Body, maxAnswer)); err != nil {
		return false, "the answer broke off: " + reason(err)
	}
	return resp.StatusCode < 400, strconv.Itoa(resp.StatusCode) + " " + http.StatusText(resp.StatusCode)
}

// reason says in a few words why there was no answer.
func reason(err error) string {
	var (
		dns     *net.DNSError
		ne      net.Error
		wrapped *url.Error
	)
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &ne) && ne.Timeout():
		return "no answer in time"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.As(err, &dns):
		return "name not found"
	case errors.As(err, &wrapped):
		return strings.TrimSpace(wrapped.Err.Error())
	}
	return err.Error()
}
