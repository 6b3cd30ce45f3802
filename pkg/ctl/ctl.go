// Package ctl holds the verbs of the operator's command, one file each. A verb reads its arguments, makes one or two calls
// of pkg/client and prints what came back; it knows nothing that the API does not say.
package ctl

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/evenkeel/evenkeel/pkg/client"
)

// The exit codes of every command.
const (
	ExitDone        = 0
	ExitFailed      = 1 // or, of diff: there are changes
	ExitUsage       = 2 // bad input
	ExitUnreachable = 3
	ExitRefused     = 4
)

// exitError carries the exit code of an error that is printed, or that was printed already when it has no text.
type exitError struct {
	code int
	text string
}

func (e *exitError) Error() string { return e.text }

func usage(format string, args ...any) error {
	return &exitError{ExitUsage, fmt.Sprintf(format, args...)}
}

// app is what the verbs share.
type app struct {
	in       io.Reader
	out, err io.Writer
	getenv   func(string) string
	context  string
	output   string
	connect  func() (*client.Client, error)
	offline  Offline
}

// Run executes the command with args and returns its exit code. Everything it reads and writes comes in here, so that a
// test can call it.
func Run(ctx context.Context, args []string, in io.Reader, out, errs io.Writer, getenv func(string) string, offline Offline) int {
	a := &app{in: in, out: out, err: errs, getenv: getenv, offline: offline}
	a.connect = func() (*client.Client, error) {
		path, err := client.Find(a.context, a.getenv)
		if err != nil {
			return nil, &exitError{ExitUnreachable, err.Error()}
		}
		c, err := client.Load(path)
		if err != nil {
			return nil, &exitError{ExitUsage, err.Error()}
		}
		return client.New(c)
	}
	root := a.root()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errs)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return ExitDone
	}
	code, text := explain(err)
	if text != "" {
		fmt.Fprintln(errs, "evenkeel:", text)
	}
	return code
}

// explain turns an error into an exit code and the sentence to print.
func explain(err error) (int, string) {
	if e, ok := errors.AsType[*exitError](err); ok {
		return e.code, e.text
	}
	if s, ok := status.FromError(err); ok && s.Code() != codes.Unknown {
		text := s.Message()
		switch s.Code() {
		case codes.Unavailable, codes.DeadlineExceeded:
			return ExitUnreachable, "cannot reach the collector: " + text
		case codes.Unauthenticated, codes.PermissionDenied:
			return ExitRefused, text
		case codes.InvalidArgument:
			return ExitUsage, text
		case codes.Canceled:
			return ExitDone, ""
		}
		return ExitFailed, text
	}
	if strings.HasPrefix(err.Error(), "unknown ") || strings.Contains(err.Error(), "arg(s)") || strings.Contains(err.Error(), "flag") {
		return ExitUsage, err.Error() + "; see evenkeel --help"
	}
	return ExitFailed, err.Error()
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "evenkeel",
		Short: "Ask a collector, and tell it what to keep on an even keel",
		Long: `Ask a collector, and tell it what to keep on an even keel.

The collector is the one of --context, of EVENKEEL_CONTEXT, of the user's own context file (evenkeel login writes it),
or the one that runs on this machine, in this order.

Exit codes: 0 done, 1 failed or differences found, 2 bad input, 3 the collector cannot be reached, 4 refused.`,
		Example: `  evenkeel apply -f map/
  evenkeel map
  evenkeel incident list
  evenkeel action explain 01K2X...`,
		SilenceUsage: true, SilenceErrors: true,
	}
	root.PersistentFlags().StringVar(&a.context, "context", "", "context file (default: see above)")
	root.PersistentFlags().StringVarP(&a.output, "output", "o", "table", "table, json or yaml")
	root.CompletionOptions.HiddenDefaultCmd = false
	root.PersistentPreRunE = func(*cobra.Command, []string) error {
		switch a.output {
		case "table", "json", "yaml":
			return nil
		}
		return usage("%q is not an output: expected table, json or yaml", a.output)
	}
	root.AddCommand(
		a.applyCommand(), a.diffCommand(), a.getCommand(), a.describeCommand(), a.deleteCommand(),
		a.hostCommand(), a.mapCommand(), a.incidentCommand(), a.actionCommand(), a.tokenCommand(), a.queryCommand(),
		a.killSwitchCommand(), a.auditCommand(), a.loginCommand(), a.versionCommand(), a.simulateCommand(),
	)
	return root
}

// ask opens a client for the length of one verb.
func (a *app) ask(do func(*client.Client) error) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	return do(c)
}

// show prints a message: as the API's JSON, as YAML of the same, or as the table.
func (a *app) show(m proto.Message, table func(io.Writer)) error {
	if a.output == "table" {
		w := tabwriter.NewWriter(a.out, 0, 8, 2, ' ', 0)
		table(w)
		return w.Flush()
	}
	b, err := client.JSON(m)
	if err != nil {
		return err
	}
	return a.write(b)
}

// write prints canonical JSON in the machine format asked for.
func (a *app) write(b []byte) error {
	if a.output == "yaml" {
		y, err := yaml.JSONToYAML(b)
		if err != nil {
			return err
		}
		_, err = a.out.Write(y)
		return err
	}
	var out bytes.Buffer
	if err := json.Indent(&out, b, "", "  "); err != nil {
		return err
	}
	out.WriteByte('\n')
	_, err := a.out.Write(out.Bytes())
	return err
}

// stream prints messages as they come: a line of JSON each, or lines of a table.
func (a *app) stream(m proto.Message, line func(io.Writer)) error {
	if a.output == "table" {
		line(a.out)
		return nil
	}
	b, err := client.JSON(m)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.out, "%s\n", b)
	return err
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// receive calls each with every message of a stream until it ends; the end that the user asked for is no error.
func receive[M any](ctx context.Context, stream interface{ Recv() (M, error) }, each func(M) error) error {
	for {
		m, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF), err != nil && ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		}
		if err := each(m); err != nil {
			return err
		}
	}
}

// interactive reports whether f is a terminal, for hints that only a person wants.
func interactive(f any) bool {
	file, ok := f.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
