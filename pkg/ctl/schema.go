package ctl

import (
	"github.com/spf13/cobra"

	"github.com/evenkeel/evenkeel/pkg/manifest"
)

func (a *app) schemaCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "schema [KIND]",
		Short: "The JSON Schema of manifests, for editors",
		Long: `The JSON Schema (draft 2020-12) of manifests, for editors: of every kind, or of one. It is made of the very structs that manifests
are read into. What documents must say of each other it cannot tell: evenkeel apply --dry-run and evenkeel simulate do.`,
		Example: `  evenkeel schema > evenkeel.schema.json
  evenkeel schema service`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			kind := ""
			if len(args) == 1 {
				kind = args[0]
			}
			text, err := manifest.Schema(kind)
			if err != nil {
				return usage("%v", err)
			}
			_, err = a.Out.Write(text)
			return err
		},
	}
}
