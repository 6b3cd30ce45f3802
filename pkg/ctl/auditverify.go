package ctl

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/evenkeel/evenkeel/pkg/audit"
)

// auditVerifyCommand checks audit logs offline: a collector's and an actor's are of one form.
func (a *app) auditVerifyCommand() *cobra.Command {
	var head string
	cmd := &cobra.Command{
		Use:   "verify FILE...",
		Short: "Check audit logs from their files: no line changed, missing or exchanged",
		Long: `Check audit logs from their files: no line changed, missing or exchanged. It needs no collector.

The log of a collector is audit/audit.jsonl in its state folder, that of an actor audit/audit.jsonl and audit-*.jsonl in its
own. Several files are read as one log, in the order of their entries. Lines that are missing at the end show only against a
head that was kept elsewhere: --head, as evenkeel-actor capabilities prints it.

It exits 0 if everything holds together, and 1 with the first line that does not.`,
		Example: "  evenkeel audit verify /var/lib/evenkeel/audit/audit.jsonl\n  evenkeel audit verify /var/lib/evenkeel-actor/audit/*.jsonl --head 812:5f0c...",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			return a.verifyAudit(args, head)
		},
	}
	cmd.Flags().StringVar(&head, "head", "", "`SEQ:HASH` of an entry that must be in the log")
	return cmd
}

func (a *app) verifyAudit(files []string, head string) error {
	wantSeq, wantHash := uint64(0), ""
	if head != "" {
		seq, hash, ok := strings.Cut(head, ":")
		n, err := strconv.ParseUint(seq, 10, 64)
		if !ok || err != nil || n == 0 || hash == "" {
			return usage("--head %q is not of the form SEQ:HASH", head)
		}
		wantSeq, wantHash = n, hash
	}
	type part struct {
		name  string
		first uint64
	}
	var parts []part
	for _, name := range files {
		first, err := firstEntry(name)
		if err != nil {
			return usage("cannot read %s: %v", name, err)
		}
		parts = append(parts, part{name, first})
	}
	slices.SortStableFunc(parts, func(x, y part) int { return cmp.Compare(x.first, y.first) })
	var chain audit.Chain
	total, found := 0, head == ""
	for i, p := range parts {
		f, err := os.Open(p.name)
		if err != nil {
			return usage("cannot read %s: %v", p.name, err)
		}
		r, err := chain.File(f, func(e audit.Entry) { found = found || e.Seq == wantSeq && e.Hash == wantHash })
		f.Close()
		if broken := (*audit.Broken)(nil); errors.As(err, &broken) {
			return &exitError{ExitFailed, fmt.Sprintf("%s: line %d: %s; the %d entries before it hold together", p.name, broken.Line, broken.Why, total+r.Entries)}
		}
		if err != nil {
			return &exitError{ExitFailed, fmt.Sprintf("%s: %v", p.name, err)}
		}
		total += r.Entries
		if r.Entries > 0 {
			fmt.Fprintf(a.Out, "%s: entries %d to %d hold together, %s to %s\n", p.name, r.First.Seq, r.Last.Seq, r.First.At.Format("2006-01-02T15:04:05Z"), r.Last.At.Format("2006-01-02T15:04:05Z"))
		} else {
			fmt.Fprintf(a.Out, "%s: no entries\n", p.name)
		}
		if i == 0 && r.Entries > 0 && r.First.Seq > 1 {
			a.hint("the log begins with entry %d here: what was before is in none of these files", r.First.Seq)
		}
		if r.Torn {
			a.hint("%s: the last line is cut short, as by a crash; it was never acknowledged", p.name)
		}
	}
	if seq, hash := chain.Head(); seq > 0 {
		fmt.Fprintf(a.Out, "head %d:%s\n", seq, hash)
	}
	if !found {
		return &exitError{ExitFailed, fmt.Sprintf("entry %d with that hash is not in the log: lines are missing at its end, or it is another log", wantSeq)}
	}
	return nil
}

// firstEntry returns the number of a file's first entry; a file that begins with none sorts first and is judged there.
func firstEntry(name string) (uint64, error) {
	f, err := os.Open(name)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return audit.FirstSeq(f), nil
}
