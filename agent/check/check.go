// Package check asks services whether they answer: an HTTP request or a TCP connection, from this host, at the address
// that a local file or the collector's watch list names.
//
// It runs no program, sends no body and no credentials, follows no redirect to another host, and reads a bounded part of
// an answer. An address comes from outside, so a check has its own short timeout and only few run at once.
//
// A Set owns one goroutine for each check under way.
package check

import (
	"context"
	"crypto/tls"
	"crypto/x509"
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

const (
	// DefaultTimeout bounds a check where its Spec does not.
	DefaultTimeout = 5 * time.Second
	// MaxTimeout is the longest timeout that a Spec may have: below the period of 15 s, so that checks never pile up.
	MaxTimeout = 10 * time.Second

	maxBody      = 64 << 10 // bytes of an answer that are read
	maxHeader    = 64 << 10
	maxRedirects = 5
	maxAddress   = 2048
)

// Spec says what to ask.
type Spec struct {
	Name    string        // value of the label "check": a component's ref, or a local name
	Kind    string        // "http" or "tcp"
	Address string        // URL, or host:port
	Timeout time.Duration // 0: DefaultTimeout
	Status  int           // HTTP status that is expected; 0: any below 400
}

// Validate reports what is wrong with a Spec.
func (s Spec) Validate() error {
	if s.Timeout < 0 || s.Timeout > MaxTimeout {
		return fmt.Errorf("timeout %v is outside 0s to %v", s.Timeout, MaxTimeout)
	}
	if len(s.Address) > maxAddress {
		return fmt.Errorf("the address has %d characters: use at most %d", len(s.Address), maxAddress)
	}
	switch s.Kind {
	case "http":
		u, err := url.Parse(s.Address)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return fmt.Errorf("%q is not an http or https URL", s.Address)
		}
		if u.User != nil {
			return errors.New("the URL holds a user: credentials do not belong into a check")
		}
		if s.Status != 0 && (s.Status < 100 || s.Status > 599) {
			return fmt.Errorf("%d is not an HTTP status", s.Status)
		}
	case "tcp":
		host, port, err := net.SplitHostPort(s.Address)
		if err != nil {
			return fmt.Errorf("%q is not host:port", s.Address)
		}
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || host == "" {
			return fmt.Errorf("%q is not host:port", s.Address)
		}
		if s.Status != 0 {
			return errors.New("a tcp check has no status")
		}
	default:
		return fmt.Errorf("unknown kind of check %q: expected http or tcp", s.Kind)
	}
	return nil
}

// Result is the answer to one check.
type Result struct {
	Name     string        `json:"check"`
	Up       bool          `json:"up"`
	Duration time.Duration `json:"duration"` // until the connection stood, or the answer's header was there
	Detail   string        `json:"detail"`   // "200 OK", "connection refused"
}

// Asker makes checks. It may be used from many goroutines.
type Asker struct {
	dial   func(ctx context.Context, network, address string) (net.Conn, error)
	client *http.Client
}

// NewAsker returns an Asker that connects by dial, or by TCP where dial is nil.
func NewAsker(dial func(ctx context.Context, network, address string) (net.Conn, error)) *Asker {
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	return &Asker{dial: dial, client: &http.Client{
		Transport: &http.Transport{
			DialContext:            dial,
			DisableKeepAlives:      true, // a check is of the whole way, connection included
			DisableCompression:     true,
			MaxResponseHeaderBytes: maxHeader,
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
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

// Ask makes one check and returns within its timeout.
func (a *Asker) Ask(ctx context.Context, s Spec) Result {
	timeout := s.Timeout
	if timeout <= 0 {
		timeout = DefaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	began := time.Now()
	r := Result{Name: s.Name}
	var err error
	if s.Kind == "tcp" {
		var c net.Conn
		if c, err = a.dial(ctx, "tcp", s.Address); err == nil {
			r.Up, r.Detail, r.Duration = true, "connected", time.Since(began)
			_ = c.Close()
		}
	} else {
		r, err = a.http(ctx, s, began)
	}
	if err != nil {
		r.Up, r.Detail, r.Duration = false, reason(err), time.Since(began)
	}
	return r
}

func (a *Asker) http(ctx context.Context, s Spec, began time.Time) (Result, error) {
	r := Result{Name: s.Name}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.Address, nil)
	if err != nil {
		return r, err
	}
	req.Header.Set("User-Agent", "evenkeel-agent")
	resp, err := a.client.Do(req)
	if err != nil {
		return r, err
	}
	r.Duration = time.Since(began)
	defer func() { _ = resp.Body.Close() }()
	if _, err := io.Copy(io.Discard, io.LimitReader(resp.Body, maxBody)); err != nil {
		return r, fmt.Errorf("the answer broke off: %w", err)
	}
	r.Detail = strconv.Itoa(resp.StatusCode) + " " + http.StatusText(resp.StatusCode)
	r.Up = resp.StatusCode == s.Status || s.Status == 0 && resp.StatusCode < 400
	if !r.Up && s.Status != 0 {
		r.Detail += ", expected " + strconv.Itoa(s.Status)
	}
	return r, nil
}

// reason says in a few words why there was no answer, without the address, which is known.
func reason(err error) string {
	var (
		dns     *net.DNSError
		unknown x509.UnknownAuthorityError
		invalid x509.CertificateInvalidError
		name    x509.HostnameError
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
	case errors.As(err, &unknown):
		return "certificate of an unknown authority"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "certificate outside its time"
	case errors.As(err, &name):
		return "certificate of another name"
	case errors.As(err, &wrapped):
		return strings.TrimSpace(wrapped.Err.Error())
	}
	return err.Error()
}
