package ctl

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/evenkeel/evenkeel/pkg/client"
	"github.com/evenkeel/evenkeel/pkg/identity"
	operatorv1 "github.com/evenkeel/evenkeel/proto/evenkeel/operator/v1"
)

func (a *app) tokenCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "token",
		Short:   "Join tokens for hosts, and operators' tokens: create, list, revoke",
		Example: "  evenkeel token create --ttl 1h --labels role=web > join",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var req operatorv1.CreateTokenRequest
	var ttl time.Duration
	var uses int32
	create := &cobra.Command{
		Use:   "create",
		Short: "Write one join string, with address and CA pin, for evenkeel-agent enroll",
		Long: `Write one join string, with address and CA pin, for evenkeel-agent enroll --join-file. It goes to standard output and is
shown this once; keep it in a file, never on a command line.

With --role, the token is an operator's own, for evenkeel login.`,
		Example: `  evenkeel token create --ttl 1h --uses 20 --labels env=prod,role=web > join
  evenkeel token create --role viewer --name wall-display --ttl 8760h > token`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			req.Ttl, req.Uses = ttl.String(), uses
			c, conf, err := a.connect()
			if err != nil {
				return err
			}
			defer c.Close()
			r, err := c.Access.CreateToken(cmd.Context(), &req)
			if err != nil {
				return err
			}
			if a.output != "table" {
				return a.show(r, nil)
			}
			fmt.Fprintln(a.Out, r.Join+r.Token)
			a.hint("token %s, usable until %s", r.Id, when(r.ExpiresAt))
			if r.Token == "" {
				a.hint("on the host: evenkeel-agent enroll --join-file FILE")
				return nil
			}
			v, err := c.Control.GetVersion(cmd.Context(), &operatorv1.GetVersionRequest{})
			if err != nil {
				return err
			}
			a.hint("its owner: evenkeel login --address %s --ca-pin %s --token-file FILE", conf.Address, v.CaPin)
			return nil
		},
	}
	create.Flags().DurationVar(&ttl, "ttl", 15*time.Minute, "how long it can be used")
	create.Flags().Int32Var(&uses, "uses", 1, "how many hosts may use it")
	create.Flags().StringToStringVar(&req.Labels, "labels", nil, "labels that the hosts get, such as env=prod,role=web")
	create.Flags().BoolVar(&req.Replace, "replace", false, "a host of the same name may be replaced")
	create.Flags().BoolVar(&req.Admit, "admit", true, "hosts that use it need no further admission")
	create.Flags().StringVar(&req.Role, "role", "", "make an operator's token: viewer, operator, approver, admin, or signaller, which may only post signals and alerts")
	create.Flags().StringVar(&req.Name, "name", "", "of the operator, with --role")
	list := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List tokens; the secrets are not kept", Example: "  evenkeel token list", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.ask(func(c *client.Client) error {
				r, err := c.Access.ListTokens(cmd.Context(), &operatorv1.ListTokensRequest{})
				if err != nil {
					return err
				}
				if len(r.Tokens) == 0 {
					a.hint("no token: evenkeel token create makes one")
				}
				return a.show(r, func(w io.Writer) {
					if len(r.Tokens) == 0 {
						return
					}
					fmt.Fprintln(w, "ID\tFOR\tSTATE\tUSES LEFT\tEXPIRES\tLABELS\tBY")
					for _, t := range r.Tokens {
						what := "hosts"
						if t.Role != "" {
							what = t.Role + " " + t.Name
						}
						fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%s\t%s\n", t.Id, what, t.State, t.UsesLeft, when(t.ExpiresAt), dash(labels(t.Labels)), dash(t.CreatedBy))
					}
				})
			})
		},
	}
	revoke := &cobra.Command{
		Use: "revoke ID", Short: "Make a token useless", Example: "  evenkeel token revoke 01K2X...", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.ask(func(c *client.Client) error {
				r, err := c.Access.RevokeToken(cmd.Context(), &operatorv1.RevokeTokenRequest{Id: args[0]})
				if err != nil {
					return err
				}
				return a.show(r, func(w io.Writer) { fmt.Fprintf(w, "token %s revoked\n", r.Id) })
			})
		},
	}
	cmd.AddCommand(create, list, revoke)
	return cmd
}

func (a *app) loginCommand() *cobra.Command {
	var address, pin, tokenFile string
	cmd := &cobra.Command{
		Use:   "login --address HOST:8425 --ca-pin sha256:... --token-file FILE|-",
		Short: "Remember a collector and an operator's token",
		Long: `Remember a collector and an operator's token in the user's own context file, mode 0600.

The CA pin is printed by the collector at its first start and by evenkeel version; it is what makes sure that the token goes
to no other server. The token is read from a file or from standard input, never from the command line.`,
		Example: "  evenkeel login --address keel.example:8425 --ca-pin sha256:3f... --token-file token",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if address == "" || pin == "" || tokenFile == "" {
				return usage("login needs --address, --ca-pin and --token-file")
			}
			want, err := identity.ParsePin(pin)
			if err != nil {
				return usage("--ca-pin: %v", err)
			}
			token, err := a.secret(tokenFile)
			if err != nil {
				return err
			}
			ca, err := a.fetchCA(cmd.Context(), address, want)
			if err != nil {
				return err
			}
			conf := client.Context{Address: address, CA: string(ca), Token: token}
			c, err := a.open(conf)
			if err != nil {
				return err
			}
			defer c.Close()
			who, err := c.Access.WhoAmI(cmd.Context(), &operatorv1.WhoAmIRequest{})
			if err != nil {
				return err
			}
			path := client.UserPath(a.Getenv)
			if a.context != "" {
				path = a.context
			}
			if err := client.Save(path, conf); err != nil {
				return err
			}
			return a.show(who, func(w io.Writer) {
				fmt.Fprintf(w, "logged in at %s as %s (%s); context kept in %s\n", address, who.Name, who.Role, path)
			})
		},
	}
	cmd.Flags().StringVar(&address, "address", "", "host:port of the collector's operator port")
	cmd.Flags().StringVar(&pin, "ca-pin", "", "sha256:... of the collector's CA key")
	cmd.Flags().StringVar(&tokenFile, "token-file", "", "file with the token, or - for standard input")
	return cmd
}

func (a *app) secret(path string) (string, error) {
	var b []byte
	var err error
	if path == "-" {
		b, err = io.ReadAll(io.LimitReader(a.In, 4096))
	} else {
		b, err = os.ReadFile(path)
	}
	if err != nil {
		return "", usage("cannot read the token: %v", err)
	}
	token := strings.TrimSpace(string(b))
	if token == "" {
		return "", usage("%s holds no token", path)
	}
	return token, nil
}

const loginTimeout = 10 * time.Second

// fetchCA takes the CA certificate that the server presents, and believes it only if its key has the pin.
func (a *app) fetchCA(ctx context.Context, address string, pin identity.Pin) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, loginTimeout)
	defer cancel()
	dial := a.Dial
	if dial == nil {
		dial = func(ctx context.Context, address string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", address)
		}
	}
	raw, err := dial(ctx, address)
	if err != nil {
		return nil, &exitError{ExitUnreachable, fmt.Sprintf("cannot reach %s: %v", address, err)}
	}
	defer raw.Close()
	conn := tls.Client(raw, identity.PinTLS(pin, time.Now))
	if err := conn.HandshakeContext(ctx); err != nil {
		code := ExitUnreachable
		if errors.Is(err, identity.ErrWrongPin) {
			code, err = ExitRefused, errors.New("no certificate that it shows has the pin given: check --address and --ca-pin; no token was sent")
		}
		return nil, &exitError{code, fmt.Sprintf("cannot log in at %s: %v", address, err)}
	}
	for _, cert := range conn.ConnectionState().PeerCertificates {
		if sha256.Sum256(cert.RawSubjectPublicKeyInfo) == pin {
			return identity.EncodeCertificates(cert.Raw), nil
		}
	}
	panic("BUG: ctl: a handshake passed that showed no certificate with the pin")
}
