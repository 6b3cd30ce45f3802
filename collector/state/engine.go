package state

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// engine builds the server's configuration.
func (c Config) engine(f *folder, log *zap.Logger) (*embed.Config, error) {
	cfg := embed.NewConfig()
	cfg.Name = c.Name
	cfg.Dir = filepath.Join(c.Dir, "etcd")
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(log)
	cfg.QuotaBackendBytes = quota
	cfg.AutoCompactionMode, cfg.AutoCompactionRetention = embed.CompactorModePeriodic, "1h"
	cfg.MaxTxnOps = MaxTxnOps
	cfg.PreVote = true
	cfg.StrictReconfigCheck = true
	cfg.EnableGRPCGateway = false
	switch {
	case c.Peer.Listen == "":
		// Alone, a member elects itself after one to two election timeouts less nine tenths: shorter ones are a shorter
		// start, and there is nobody to lose an election to.
		cfg.TickMs, cfg.ElectionMs = 50, 500
	case c.SlowDisk:
		cfg.TickMs, cfg.ElectionMs = 250, 2500
	default:
		cfg.TickMs, cfg.ElectionMs = 100, 1000
	}
	if err := cfg.ServerFeatureGate.(interface{ Set(string) error }).Set("InitialCorruptCheck=true"); err != nil {
		return nil, err
	}

	client := url.URL{Scheme: "unix", Path: f.socket}
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}

	// A member must advertise some peer URL. Without a listener it is the port of the design, which nothing serves and
	// nobody dials.
	peer := url.URL{Scheme: "https", Host: "127.0.0.1:8424"}
	cfg.ListenPeerUrls = nil
	if c.Peer.Listen != "" {
		info, err := c.Peer.tls(filepath.Join(c.Dir, "peer"))
		if err != nil {
			return nil, err
		}
		cfg.PeerTLSInfo = info
		cfg.TlsMinVersion = "TLS1.3"
		peer.Host = c.Peer.Advertise
		if peer.Host == "" {
			peer.Host = c.Peer.Listen
		}
		cfg.ListenPeerUrls = []url.URL{{Scheme: "https", Host: c.Peer.Listen}}
	}
	cfg.AdvertisePeerUrls = []url.URL{peer}
	cfg.InitialCluster = cfg.InitialClusterFromName(c.Name)
	return cfg, nil
}

// Peer says where other members reach this one. Its listener demands a client certificate of CAFile, also on loopback.
type Peer struct {
	// Listen is IP:port; empty for none. Other schemes than TLS over TCP are not on offer: a unix URL would become an
	// abstract socket that any user of the host may open.
	Listen string
	// Advertise is what other members dial, host:port. Default Listen.
	Advertise string
	// CertFile, KeyFile and CAFile are PEM. Where all are empty, a certificate is made in Dir whose CA's key is thrown
	// away, so that nobody else can have one: right until a second member is wanted.
	CertFile, KeyFile, CAFile string
}

func (p Peer) tls(dir string) (transport.TLSInfo, error) {
	host, _, err := net.SplitHostPort(p.Listen)
	if err != nil || net.ParseIP(host) == nil {
		return transport.TLSInfo{}, fmt.Errorf("peer address %q is not IP:port", p.Listen)
	}
	given := 0
	for _, f := range []string{p.CertFile, p.KeyFile, p.CAFile} {
		if f != "" {
			given++
		}
	}
	switch given {
	case 0:
		if p.CertFile, p.KeyFile, p.CAFile, err = ownCertificate(dir, host); err != nil {
			return transport.TLSInfo{}, fmt.Errorf("cannot make the peer certificate: %w", err)
		}
	case 3:
	default:
		return transport.TLSInfo{}, errors.New("a peer needs all of CertFile, KeyFile and CAFile, or none")
	}
	return transport.TLSInfo{
		CertFile: p.CertFile, KeyFile: p.KeyFile, TrustedCAFile: p.CAFile,
		ClientCertAuth: true, MinVersion: tls.VersionTLS13,
	}, nil
}

// maxSocketPath is the longest path that Linux takes for a unix socket; a longer one is a bare "invalid argument".
const maxSocketPath = 107

// folder is the private folder of an engine, held against other processes.
type folder struct {
	lock   *os.File
	dir    *os.File // kept open while socket goes through it
	socket string   // path of the client's socket
}

// openFolder makes dir private, takes it for this process, and says where the socket is: in dir, under its plain path
// where that is short enough, else through /proc/self/fd, which names the same file in few bytes. Either way the
// kernel lets nobody through who may not enter dir.
func openFolder(path string) (_ *folder, err error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o700); err != nil {
		return nil, fmt.Errorf("the folder must be private: %w", err)
	}
	f := &folder{}
	defer func() {
		if err != nil {
			f.close()
		}
	}()
	if f.lock, err = os.OpenFile(filepath.Join(path, "lock"), os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errors.New("another process has this folder open: stop the other collector, or use another folder")
		}
		return nil, fmt.Errorf("lock: %w", err)
	}
	f.socket = filepath.Join(path, "client.sock")
	if len(f.socket) > maxSocketPath {
		if f.dir, err = os.Open(path); err != nil {
			return nil, err
		}
		f.socket = fmt.Sprintf("/proc/self/fd/%d/client.sock", f.dir.Fd())
	}
	return f, nil
}

func (f *folder) close() {
	if f.dir != nil {
		_ = f.dir.Close()
	}
	if f.lock != nil {
		_ = f.lock.Close()
	}
}
