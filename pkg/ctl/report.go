package ctl

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"

	"github.com/spf13/cobra"

	"github.com/evenkeel/evenkeel/pkg/document"
)

func (a *app) reportCommand() *cobra.Command {
	var f assumptions
	var format, service, month, zone, incidents, faults, to string
	cmd := &cobra.Command{
		Use:   "report",
		Short: "The account of a month: availability, objectives, cost by cause, incidents, support, agreements",
		Long: `The account of a month, for one service or for all: availability and by whose doing it was not, objectives, cost and which causes did,
incidents, support, agreements, and what is not known. With -f it is answered from files alone, without a collector.

It is written as Markdown, one printable HTML file, CSV of its tables, JSON (the whole answer), or PDF. --history is a CSV file of states
as in evenkeel slo show, --incidents one of incidents as in evenkeel agreements, and --faults one of what was bad by itself, with the first
line ref,level,from,to. Without them, those on record are taken.`,
		Example: `  evenkeel report --month 2026-11 --timezone Europe/Berlin --format pdf -o november.pdf
  evenkeel report -f map/ --history states.csv --service service/checkout
  evenkeel report -f map/ --history states.csv --faults faults.csv --incidents incidents.csv --format html -o report.html`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			args := map[string]string{"service": service, "month": month, "timezone": zone}
			maps.DeleteFunc(args, func(_, v string) bool { return v == "" })
			args, err := withFile(args, "incidents", incidents)
			if err != nil {
				return err
			}
			if args, err = withFile(args, "faults", faults); err != nil {
				return err
			}
			return a.writeDocument(cmd, "report", &f, args, format, to)
		},
	}
	fs := cmd.Flags()
	fs.StringSliceVarP(&f.files, "filename", "f", nil, "file, folder or - (repeatable)")
	fs.StringVar(&f.at, "at", "", "moment of the answer, RFC 3339; default now")
	f.historyFlag(cmd)
	fs.StringVar(&format, "format", "md", "md, html, csv, json or pdf")
	fs.StringVarP(&to, "output", "o", "", "file to write to; default the standard output")
	fs.StringVar(&service, "service", "", "service/NAME; default all")
	fs.StringVar(&month, "month", "", "month, such as 2026-11; default that of --at")
	fs.StringVar(&zone, "timezone", "", "time zone of the month, such as Europe/Berlin; default UTC")
	fs.StringVar(&incidents, "incidents", "", "CSV file of incidents")
	fs.StringVar(&faults, "faults", "", "CSV file of what was bad by itself")
	return cmd
}

// writeDocument asks a question for its answer as a document, or as JSON, and writes it in a format to a file; an empty one is the standard output.
func (a *app) writeDocument(cmd *cobra.Command, question string, f *assumptions, args map[string]string, format, to string) error {
	if format != "json" {
		if args == nil {
			args = map[string]string{}
		}
		args["form"] = "document"
	}
	write, ok := formats[format]
	switch {
	case !ok:
		return usage("--format %s: expected md, html, csv, json or pdf", format)
	case to == "json" || to == "yaml" || to == "table":
		return usage("-o names a file here: for JSON say --format json, for a file of that name -o ./%s", to)
	}
	answer, err := a.answer(cmd.Context(), question, f, args)
	if err != nil {
		return err
	}
	text, err := write(answer)
	if err != nil {
		return err
	}
	if to == "" || to == "-" {
		_, err = a.Out.Write(text)
		return err
	}
	if err := os.WriteFile(to, text, 0o644); err != nil {
		return fmt.Errorf("cannot write the %s: %w", question, err)
	}
	a.hint("%s: %d bytes", to, len(text))
	return nil
}

// formats write the answer: json as it is, the others a document.
var formats = map[string]func(answer []byte) ([]byte, error){
	"md":   written(func(d *document.Document) ([]byte, error) { return document.Markdown(d), nil }),
	"html": written(document.HTML),
	"csv":  written(document.CSV),
	"pdf":  written(document.PDF),
	"json": func(answer []byte) ([]byte, error) {
		var b bytes.Buffer
		err := json.Indent(&b, answer, "", "  ")
		b.WriteByte('\n')
		return b.Bytes(), err
	},
}

func written(write func(*document.Document) ([]byte, error)) func([]byte) ([]byte, error) {
	return func(answer []byte) ([]byte, error) {
		var d document.Document
		if err := json.Unmarshal(answer, &d); err != nil {
			return nil, err
		}
		if err := d.Check(); err != nil {
			return nil, err
		}
		return write(&d)
	}
}
