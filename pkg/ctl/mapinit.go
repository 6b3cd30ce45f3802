package ctl

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/evenkeel/evenkeel/pkg/importer"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

func (a *app) mapInitCommand() *cobra.Command {
	var f assumptions
	var dir, role, app, owner string
	cmd := &cobra.Command{
		Use:   "init",
		Short: "A starter map of the hosts that are on no map yet, by their labels",
		Long: `A starter map of the hosts that are on no map yet, by their labels: a component for each role, a service for each
application, a team for each owner. With -f it is drawn of the kind Host documents of files, without a collector.

The labels are the first of role, tier, component, function; of app, application, service, product, system; and of owner, team that
any host has, and then the same with the prefix agent/. What labels cannot tell is listed on standard error as gaps.

The manifests go to standard output, or with --dir into files of that folder. Nothing is applied.`,
		Example: `  evenkeel map init --dir map/
  evenkeel map init -f hosts.yaml --role-label tier --app-label product`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			args := map[string]string{}
			for name, value := range map[string]string{"role": role, "app": app, "owner": owner} {
				if value != "" {
					args[name] = value
				}
			}
			answer, err := a.answer(cmd.Context(), "map-init", &f, args)
			if err != nil {
				return err
			}
			if a.output == "json" {
				return a.write(answer)
			}
			var in struct {
				Resources []json.RawMessage
				Gaps      []importer.Gap
			}
			if err := json.Unmarshal(answer, &in); err != nil {
				return err
			}
			resources := make([]*manifest.Resource, len(in.Resources))
			for i, doc := range in.Resources {
				if resources[i], err = manifest.Decode(doc); err != nil {
					return fmt.Errorf("the answer is not readable here: %w", err)
				}
			}
			return a.made(resources, in.Gaps, dir)
		},
	}
	cmd.Flags().StringSliceVarP(&f.files, "filename", "f", nil, "file, folder or - (repeatable)")
	cmd.Flags().StringVar(&role, "role-label", "", "label that tells the role of a host")
	cmd.Flags().StringVar(&app, "app-label", "", "label that tells the application of a host")
	cmd.Flags().StringVar(&owner, "owner-label", "", "label that tells the team that owns a host")
	dirFlag(cmd, &dir)
	return cmd
}
