package ctl

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/evenkeel/evenkeel/pkg/command"
	"github.com/evenkeel/evenkeel/pkg/identity"
	operatorv1 "github.com/evenkeel/evenkeel/proto/evenkeel/operator/v1"
)

const maxPassphrase = 1024

// approverFile is the key file that is meant where none is named.
func (a *app) approverFile(named string) (string, error) {
	if named != "" {
		return named, nil
	}
	if dir := a.Getenv("XDG_CONFIG_HOME"); dir != "" {
		return filepath.Join(dir, "evenkeel", "approver.key"), nil
	}
	if home := a.Getenv("HOME"); home != "" {
		return filepath.Join(home, ".config", "evenkeel", "approver.key"), nil
	}
	return "", usage("there is no home folder for the approver's key: name a file with --key")
}

// passphrase reads a passphrase from a file, or from standard input for "-".
func (a *app) passphrase(file string) ([]byte, error) {
	in := a.In
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, usage("cannot read the passphrase: %v", err)
		}
		defer f.Close()
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 {
			return nil, usage("the passphrase file %s can be read by others (mode %04o): run chmod 600 on it", file, info.Mode().Perm())
		}
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, maxPassphrase+1))
	if err != nil {
		return nil, usage("cannot read the passphrase: %v", err)
	}
	if len(b) > maxPassphrase {
		return nil, usage("the passphrase is longer than %d bytes", maxPassphrase)
	}
	word, _, _ := bytes.Cut(b, []byte("\n"))
	if word = bytes.TrimSuffix(word, []byte("\r")); len(word) == 0 {
		return nil, usage("the passphrase is empty")
	}
	return word, nil
}

// openApprover opens a key file, asking for its passphrase where it has one.
func (a *app) openApprover(file, passphraseFile string) (ed25519.PrivateKey, error) {
	k, err := identity.ReadApprover(file)
	if err != nil {
		return nil, usage("%v", err)
	}
	key, err := k.Open(func() ([]byte, error) {
		if passphraseFile == "" {
			return nil, usage("the key %s is sealed: give its passphrase with --passphrase-file FILE, or - for standard input", file)
		}
		return a.passphrase(passphraseFile)
	})
	if errors.Is(err, identity.ErrPassphrase) {
		return nil, &exitError{ExitRefused, err.Error()}
	}
	return key, err
}

func (a *app) approverCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "approver",
		Short: "An approver's own key, which no collector holds: init, show",
		Long: `An approver's own key, which no collector holds: init, show.

What cannot be taken back, and what takes a service out, needs the signature of a person's key on the very command, beside
the collector's. Hosts know such keys from their permissions files alone. evenkeel action approve ID --key FILE signs.`,
		Example: "  evenkeel approver init --passphrase-file word\n  evenkeel approver show",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var file, passphraseFile string
	var open bool
	create := &cobra.Command{
		Use: "init", Short: "Make a key on this machine, and print what a host's owner lists",
		Long: "Make a key on this machine, and print what a host's owner lists under approvers in /etc/evenkeel/permissions.yaml. The\n" +
			"file has mode 0600 and is sealed by a passphrase, unless --without-passphrase leaves it to the mode alone.",
		Example: "  evenkeel approver init --passphrase-file word\n  evenkeel approver init --key /media/stick/approver.key --without-passphrase",
		Args:    cobra.NoArgs,
		RunE: func(_ *cobra.Command, _ []string) error {
			if open == (passphraseFile != "") {
				return usage("say how the key is kept: --passphrase-file FILE (or -), or --without-passphrase")
			}
			path, err := a.approverFile(file)
			if err != nil {
				return err
			}
			var word []byte
			if !open {
				if word, err = a.passphrase(passphraseFile); err != nil {
					return err
				}
			}
			k, err := identity.MakeApprover(path, word)
			if err != nil {
				return usage("cannot make the approver's key: %v", err)
			}
			a.hint("the key is in %s; back it up where no collector is, and list its public part in the permissions of the hosts", path)
			return a.showApprover(k)
		},
	}
	create.Flags().StringVar(&passphraseFile, "passphrase-file", "", "`file` with the passphrase that seals the key, - for standard input")
	create.Flags().BoolVar(&open, "without-passphrase", false, "leave the key to the file's mode alone")
	show := &cobra.Command{
		Use: "show", Short: "Print the public part of a key", Example: "  evenkeel approver show --key approver.key", Args: cobra.NoArgs,
		RunE: func(_ *cobra.Command, _ []string) error {
			path, err := a.approverFile(file)
			if err != nil {
				return err
			}
			k, err := identity.ReadApprover(path)
			if err != nil {
				return usage("%v", err)
			}
			return a.showApprover(k)
		},
	}
	for _, c := range []*cobra.Command{create, show} {
		c.Flags().StringVar(&file, "key", "", "`file` of the key; by default approver.key beside the user's context")
	}
	cmd.AddCommand(create, show)
	return cmd
}

func (a *app) showApprover(k *identity.Approver) error {
	if a.output != "table" {
		return a.show(&operatorv1.Key{Id: command.KeyID(k.Public), Use: "approver", Owner: command.FormatPublicKey(k.Public)}, nil)
	}
	sealed := "sealed by a passphrase"
	if !k.Sealed {
		sealed = "not sealed"
	}
	fmt.Fprintf(a.Out, "approvers: [%s]\n", command.FormatPublicKey(k.Public))
	a.hint("key %s, %s", command.KeyID(k.Public), sealed)
	return nil
}

// signApproval reads what the command's bytes say, shows it, and signs them. What the collector says about them counts for
// nothing here.
func (a *app) signApproval(x *operatorv1.Action, key ed25519.PrivateKey, hash string, yes bool) (*operatorv1.DecideActionRequest, error) {
	public := key.Public().(ed25519.PublicKey)
	if len(x.CommandBody) == 0 {
		return nil, &exitError{ExitFailed, fmt.Sprintf("action %s is %s and waits for no key", x.Id, x.Phase)}
	}
	c, err := command.ParseBody(x.CommandBody)
	if err != nil {
		return nil, &exitError{ExitRefused, "not signed: what the collector wants signed is no command: " + err.Error()}
	}
	is := command.HashBody(x.CommandBody)
	switch {
	case c.ID != x.Id:
		return nil, &exitError{ExitRefused, fmt.Sprintf("not signed: the command is %s, not %s", c.ID, x.Id)}
	case c.Kind != command.Apply:
		return nil, &exitError{ExitRefused, "not signed: the command carries out no action"}
	case hash != "" && hash != is:
		return nil, &exitError{ExitRefused, fmt.Sprintf("not signed: the command's hash is %s now", is)}
	}
	w := a.Err
	fmt.Fprintf(w, "The command, as its own bytes say:\n  host     %s\n  does     %s\n  on       %s\n", printable(c.Host), doing(c), printable(c.Action.Target.String()))
	fmt.Fprintf(w, "  risk     %s\n  for      %s\n  good     until %s\n  because  %s\n  sha256   %s\n", command.EffectiveRisk(c), leaseText(c), c.Expires.UTC().Format("2006-01-02 15:04:05 UTC"),
		dash(printable(c.Reason)), is)
	fmt.Fprintf(w, "Signed with key %s it is carried out.\n", command.KeyID(public))
	if hash == "" && !yes {
		return nil, usage("not signed: say --yes to sign what is shown, or --hash %s", is)
	}
	s := command.Approve(x.CommandBody, key)
	return &operatorv1.DecideActionRequest{Id: x.Id, CommandHash: is, Key: command.FormatPublicKey(public), Signature: s.Sig}, nil
}

func doing(c command.Command) string {
	spec, ok := command.Lookup(c.Action.Name)
	switch {
	case !ok:
		return fmt.Sprintf("%s %d, which this program does not know", printable(c.Action.Name), c.Action.Value)
	case spec.Min == spec.Max:
		return c.Action.Name + ": " + spec.Title
	}
	return fmt.Sprintf("%s %d %s: %s", c.Action.Name, c.Action.Value, spec.Unit, spec.Title)
}

func leaseText(c command.Command) string {
	if c.Lease == 0 {
		return "good: it cannot be taken back"
	}
	return c.Lease.String()
}

// printable keeps a text from moving the cursor of whoever reads it.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '?'
		}
		return r
	}, s)
}
