package ctl

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/evenkeel/evenkeel/pkg/importer"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

func (a *app) importCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "import",
		Short: "First manifests out of what is there already: csv, ical",
		Long: `First manifests out of what is there already: a CSV of services, an iCalendar. No collector is asked, none is changed: read
what comes out, and apply it.`,
		Example: `  evenkeel import csv services.csv --timezone Europe/Berlin --dir map/
  evenkeel import ical holidays.ics --name holidays --timezone Europe/Berlin`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.importCSVCommand(), a.importICalCommand())
	return cmd
}

func (a *app) importCSVCommand() *cobra.Command {
	var zone, dir string
	cmd := &cobra.Command{
		Use:   "csv FILE|-",
		Short: "Services, owners, hours and vendors out of a CSV, with a list of the gaps",
		Long: fmt.Sprintf(`Services, owners, hours and vendors out of a CSV, one service a line. The first line names the columns, in any order:
%s.
Only service is needed. Fields are set apart by commas, or by semicolons.

hours is 24x7, or such as mon..fri 08:00-18:00; sat 09:00-13:00. dependsOn are services, with spaces between them. phone and
email are those of the owner, contract is that of the vendor.

The manifests go to standard output, or with --dir into files of that folder. What is missing is told on standard error.`,
			strings.Join(importer.Columns(), ", ")),
		Example: `  evenkeel import csv services.csv --timezone Europe/Berlin --dir map/
  evenkeel import csv services.csv -o json`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			name, text, err := a.readOne(args[0])
			if err != nil {
				return err
			}
			result, problems := importer.CSV(name, text, zone)
			if len(problems) > 0 {
				return a.complain(problemsTo(problems))
			}
			return a.made(result.Resources, result.Gaps, dir)
		},
	}
	cmd.Flags().StringVar(&zone, "timezone", "", "time zone of the hours, such as Europe/Berlin")
	dirFlag(cmd, &dir)
	return cmd
}

func (a *app) importICalCommand() *cobra.Command {
	var opt importer.CalendarOptions
	var dir string
	cmd := &cobra.Command{
		Use:   "ical FILE|- --name NAME",
		Short: "A calendar out of an iCalendar file",
		Long: `A calendar out of an iCalendar file. An event with dates is a holiday; one with times is a peak, and needs a factor: its own
X-EVENKEEL-FACTOR, or --factor. What decides nothing, such as descriptions and alarms, is left out.

The manifest goes to standard output, or with --dir into a file of that folder.`,
		Example: `  evenkeel import ical holidays.ics --name holidays --timezone Europe/Berlin
  evenkeel import ical sales.ics --name retail --factor 3 --dir map/`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if opt.Name == "" {
				return usage("say what the calendar is called: --name NAME")
			}
			name, text, err := a.readOne(args[0])
			if err != nil {
				return err
			}
			result, problems := importer.ICal(name, text, opt)
			if len(problems) > 0 {
				return a.complain(problemsTo(problems))
			}
			return a.made(result.Resources, result.Gaps, dir)
		},
	}
	cmd.Flags().StringVar(&opt.Name, "name", "", "name of the calendar")
	cmd.Flags().StringVar(&opt.Timezone, "timezone", "", "time zone; default the one that the file names")
	cmd.Flags().StringVar(&opt.Default, "default", "", "factor outside every event; 1 where not stated, support hours have 0")
	cmd.Flags().StringVar(&opt.Factor, "factor", "", "factor of events with times that state none")
	dirFlag(cmd, &dir)
	return cmd
}

func dirFlag(cmd *cobra.Command, dir *string) {
	cmd.Flags().StringVar(dir, "dir", "", "folder to write to, one file for each kind; nothing there is overwritten")
}

// readOne reads one file, or "-" for standard input.
func (a *app) readOne(path string) (name string, text []byte, err error) {
	if path == "-" {
		text, err = io.ReadAll(a.In)
		return "stdin", text, err
	}
	if text, err = os.ReadFile(path); err != nil {
		return "", nil, usage("cannot read: %v", err)
	}
	return path, text, nil
}

// made hands out manifests that a verb made: as the API's JSON, as files, or as YAML.
func (a *app) made(resources []*manifest.Resource, gaps []importer.Gap, dir string) error {
	if gaps == nil {
		gaps = []importer.Gap{}
	}
	if a.output == "json" {
		b, err := json.Marshal(map[string]any{"apiVersion": manifest.APIVersion, "kind": "Import", "resources": resources, "gaps": gaps})
		if err != nil {
			return err
		}
		return a.write(b)
	}
	for _, g := range gaps {
		where := ""
		if g.Line > 0 {
			where = fmt.Sprintf(" (line %d)", g.Line)
		}
		fmt.Fprintf(a.Err, "gap: %s%s: %s\n", g.Ref, where, g.Text)
	}
	if dir != "" {
		return a.writeKinds(resources, dir)
	}
	text, err := manifest.YAML(resources...)
	if err != nil {
		return err
	}
	_, err = a.Out.Write(text)
	return err
}

// writeKinds writes one file for each kind. It looks first whether one of them is there already, and then writes none.
func (a *app) writeKinds(resources []*manifest.Resource, dir string) error {
	byKind := map[string][]*manifest.Resource{}
	var kinds []string
	for _, r := range resources {
		if byKind[r.Kind] == nil {
			kinds = append(kinds, r.Kind)
		}
		byKind[r.Kind] = append(byKind[r.Kind], r)
	}
	path := func(kind string) string { return filepath.Join(dir, strings.ToLower(kind)+"s.yaml") }
	for _, kind := range kinds {
		if _, err := os.Lstat(path(kind)); !errors.Is(err, fs.ErrNotExist) {
			return usage("%s is there already: choose another folder, or take it away", path(kind))
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, kind := range kinds {
		text, err := manifest.YAML(byKind[kind]...)
		if err != nil {
			return err
		}
		f, err := os.OpenFile(path(kind), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if err != nil {
			return err
		}
		_, err = f.Write(text)
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
		fmt.Fprintln(a.Out, path(kind))
	}
	return nil
}
