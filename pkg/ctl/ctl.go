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
	"net"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/evenkeel/evenkeel/pkg/client"
	"github.com/evenkeel/evenkeel/pkg/health"
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

// Env is the world of the command: everything that it reads, writes and reaches. All fields are needed unless they say
// otherwise.
type Env struct {
	In       io.Reader
	Out, Err io.Writer
	Getenv   func(string) string
	// Dial connects to a collector at host:port. It may be nil: then TCP is used.
	Dial func(ctx context.Context, address string) (net.Conn, error)
	// Reason answers out of files alone. The packages that do it belong to the collector, which pkg may not import, so the
	// program hands it in.
	Reason Reason
}

// app is what the verbs share.
type app struct {
	Env
	context string
	output  string
}

// Run executes the command with args and returns its exit code.
func Run(ctx context.Context, args []string, env Env) int {
	a := &app{Env: env}
	root := a.root()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return ExitDone
	}
	code, text := explain(err)
	if text != "" {
		fmt.Fprintln(env.Err, "evenkeel:", text)
	}
	return code
}

// connect returns a client of the collector that the context file names.
func (a *app) connect() (*client.Client, client.Context, error) {
	path, err := client.Find(a.context, a.Getenv)
	if err != nil {
		return nil, client.Context{}, err
	}
	conf, err := client.Load(path)
	if err != nil {
		return nil, conf, &exitError{ExitUsage, err.Error()}
	}
	c, err := a.open(conf)
	return c, conf, err
}

func (a *app) open(conf client.Context) (*client.Client, error) {
	var more []grpc.DialOption
	if a.Dial != nil {
		more = append(more, grpc.WithContextDialer(a.Dial))
	}
	c, err := client.New(conf, more...)
	if err != nil {
		return nil, &exitError{ExitUsage, err.Error()}
	}
	return c, nil
}

// explain turns an error into an exit code and the sentence to print.
func explain(err error) (int, string) {
	if e, ok := errors.AsType[*exitError](err); ok {
		return e.code, e.text
	}
	if errors.Is(err, client.ErrNoContext) {
		return ExitUnreachable, err.Error()
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
		}
		return ExitFailed, text
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
		SilenceUsage: true, SilenceErrors: true, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.PersistentFlags().StringVar(&a.context, "context", "", "context file (default: see above)")
	root.PersistentFlags().StringVarP(&a.output, "output", "o", "table", "table, json or yaml")
	root.PersistentPreRunE = func(*cobra.Command, []string) error {
		switch a.output {
		case "table", "json", "yaml":
			return nil
		}
		return usage("%q is not an output: expected table, json or yaml", a.output)
	}
	root.AddCommand(
		a.applyCommand(), a.diffCommand(), a.getCommand(), a.describeCommand(), a.deleteCommand(), a.hostCommand(),
		a.mapCommand(), a.incidentCommand(), a.actionCommand(), a.tokenCommand(), a.queryCommand(), a.killSwitchCommand(),
		a.auditCommand(), a.approverCommand(), a.keyCommand(), a.loginCommand(), a.versionCommand(), a.simulateCommand(), a.recoveryPlanCommand(),
		a.sloCommand(), a.contactsCommand(), a.causeCommand(), a.impactCommand(), a.whatIfCommand(), a.coverageCommand(),
		a.agreementsCommand(), a.portfolioCommand(), a.reportCommand(), a.reviewCommand(), a.changesCommand(),
		a.warningCommand(), a.importCommand(), a.testCommand(), a.schemaCommand(), a.setCommand(), a.unsetCommand(),
	)
	// The library's own commands take the output that is set when they are made.
	root.SetIn(a.In)
	root.SetOut(a.Out)
	root.SetErr(a.Err)
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usage("%v; see %s --help", err, cmd.CommandPath())
	})
	mistakes(root)
	return root
}

// mistakes makes wrong arguments of any command bad input.
func mistakes(cmd *cobra.Command) {
	check := cmd.Args
	if check == nil {
		check = cobra.ArbitraryArgs
	}
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		err := check(cmd, args)
		if err == nil {
			return nil
		}
		if len(args) > 0 && cmd.HasSubCommands() {
			cmd.SuggestionsMinimumDistance = 2
			if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
				return usage("%v; did you mean %s?", err, strings.Join(near, " or "))
			}
		}
		return usage("%v; see %s --help", err, cmd.CommandPath())
	}
	for _, c := range cmd.Commands() {
		mistakes(c)
	}
}

// ask opens a client for the length of one verb.
func (a *app) ask(do func(*client.Client) error) error {
	c, _, err := a.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	return do(c)
}

// hint says something to a person, where the output is for people.
func (a *app) hint(format string, args ...any) {
	if a.output == "table" {
		fmt.Fprintf(a.Err, format+"\n", args...)
	}
}

// show prints a message: as the API's JSON, as YAML of the same, or as the table.
func (a *app) show(m proto.Message, table func(io.Writer)) error {
	if a.output == "table" {
		return a.aligned(table)
	}
	b, err := client.JSON(m)
	if err != nil {
		return err
	}
	return a.write(b)
}

// aligned prints a table, its columns below each other.
func (a *app) aligned(table func(io.Writer)) error {
	w := tabwriter.NewWriter(a.Out, 0, 8, 2, ' ', 0)
	table(w)
	return w.Flush()
}

// write prints canonical JSON in the machine format asked for.
func (a *app) write(b []byte) error {
	if a.output == "yaml" {
		y, err := yaml.JSONToYAML(b)
		if err != nil {
			return err
		}
		_, err = a.Out.Write(y)
		return err
	}
	var out bytes.Buffer
	if err := json.Indent(&out, b, "", "  "); err != nil {
		return err
	}
	out.WriteByte('\n')
	_, err := a.Out.Write(out.Bytes())
	return err
}

// stream prints messages as they come: a line of JSON each, or lines of a table.
func (a *app) stream(m proto.Message, line func(io.Writer)) error {
	if a.output == "table" {
		line(a.Out)
		return nil
	}
	b, err := client.JSON(m)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.Out, "%s\n", b)
	return err
}

// when writes a time of the API for a table: to the second, which is what people read. JSON keeps all of it.
func when(s string) string {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return dash(s)
	}
	return t.UTC().Format(time.RFC3339)
}

// span writes a health: one word when it is known, unknown when nothing is, both ends otherwise.
func span(low, high string) string {
	switch {
	case low == high:
		return low
	case low == health.OK.String() && high == health.Critical.String():
		return "unknown"
	}
	return low + "..." + high
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
