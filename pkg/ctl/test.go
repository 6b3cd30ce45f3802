package ctl

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"
)

// mapTestReport is the JSON of a test.
type mapTestReport struct {
	Passed, Failed int
	Cases          []struct {
		Test, Name string
		Passed     bool
		Failures   []struct{ Of, Expected, Got string }
	}
}

func (a *app) testCommand() *cobra.Command {
	var f assumptions
	cmd := &cobra.Command{
		Use:   "test -f FILE|FOLDER|-",
		Short: "Hold a map to the MapTests beside it",
		Long: `Hold a map to the MapTests beside it: which health, causes, costs and order of repair come out of which states. No collector is
asked; a MapTest is never applied to one.

Exit code 0: all passed; 1: some failed; 2: the manifests have mistakes.`,
		Example: `  evenkeel test -f map/
  evenkeel test -f map/ -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(f.files) == 0 {
				return usage("say what to test: -f FILE, FOLDER or -")
			}
			out, err := a.answer(cmd.Context(), "test", &f, nil)
			if err != nil {
				return err
			}
			var r mapTestReport
			if err := json.Unmarshal(out, &r); err != nil {
				return err
			}
			if a.output != "table" {
				err = a.write(out)
			} else {
				a.mapTests(&r)
			}
			if err == nil && r.Failed > 0 {
				return &exitError{code: ExitFailed}
			}
			return err
		},
	}
	cmd.Flags().StringSliceVarP(&f.files, "filename", "f", nil, "file, folder or - (repeatable)")
	return cmd
}

func (a *app) mapTests(r *mapTestReport) {
	for _, c := range r.Cases {
		word := "PASS"
		if !c.Passed {
			word = "FAIL"
		}
		fmt.Fprintf(a.Out, "%s  %s: %s\n", word, c.Test, c.Name)
		for _, f := range c.Failures {
			fmt.Fprintf(a.Out, "      %s: expected %s, got %s\n", f.Of, f.Expected, f.Got)
		}
	}
	fmt.Fprintf(a.Out, "%d passed, %d failed\n", r.Passed, r.Failed)
}
