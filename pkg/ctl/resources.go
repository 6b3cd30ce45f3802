package ctl

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/evenkeel/evenkeel/pkg/client"
	"github.com/evenkeel/evenkeel/pkg/manifest"
	operatorv1 "github.com/evenkeel/evenkeel/proto/evenkeel/operator/v1"
)

// gather reads manifests from files, folders and, for "-", standard input.
func (a *app) gather(paths []string) ([]*operatorv1.File, error) {
	if len(paths) == 0 {
		return nil, usage("say which manifests: -f FILE, -f FOLDER or -f -")
	}
	var files []*operatorv1.File
	for _, path := range paths {
		if path == "-" {
			b, err := io.ReadAll(a.In)
			if err != nil {
				return nil, err
			}
			files = append(files, &operatorv1.File{Name: "stdin", Text: string(b)})
			continue
		}
		found := len(files)
		err := filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if d.IsDir() || p != path && !slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(p)) {
				return nil
			}
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			files = append(files, &operatorv1.File{Name: p, Text: string(b)})
			return nil
		})
		if err != nil {
			return nil, usage("cannot read manifests: %v", err)
		}
		if len(files) == found {
			return nil, usage("%s holds no .yaml, .yml or .json file", path)
		}
	}
	return files, nil
}

// complain prints problems as a compiler does and says that the input is bad.
func (a *app) complain(problems []*operatorv1.Problem) error {
	for _, p := range problems {
		fmt.Fprintln(a.Err, problemLine(p))
	}
	n := "1 problem"
	if len(problems) != 1 {
		n = fmt.Sprintf("%d problems", len(problems))
	}
	return usage("%s found, nothing was changed", n)
}

// problemLine writes a problem with its place; one of what stands in no file has none.
func problemLine(p *operatorv1.Problem) string {
	return manifest.Problem{File: p.File, Line: int(p.Line), Column: int(p.Column), Text: p.Text, Hint: p.Hint}.String()
}

func changeTable(w io.Writer, changes []*operatorv1.Change) {
	for _, c := range changes {
		fmt.Fprintf(w, "%s\t%s\n", c.Ref, c.Verb)
		for _, f := range c.Fields {
			fmt.Fprintf(w, "  %s\t%s -> %s\n", f.Path, dash(f.From), dash(f.To))
		}
	}
}

func (a *app) applyCommand() *cobra.Command {
	var files []string
	var dry bool
	cmd := &cobra.Command{
		Use:   "apply -f FILE|FOLDER|-",
		Short: "Create or change what the manifests say",
		Long: `Create or change what the manifests say. All of them are checked first; one mistake, and nothing is changed.
Applying the same manifests twice changes nothing.`,
		Example: `  evenkeel apply -f map/
  cat service.yaml | evenkeel apply -f - --dry-run`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			in, err := a.gather(files)
			if err != nil {
				return err
			}
			return a.ask(func(c *client.Client) error {
				r, err := c.Resources.Apply(cmd.Context(), &operatorv1.ApplyRequest{Files: in, DryRun: dry})
				if err != nil {
					return err
				}
				if len(r.Problems) > 0 {
					return a.complain(r.Problems)
				}
				return a.show(r, func(w io.Writer) { changeTable(w, r.Changes) })
			})
		},
	}
	cmd.Flags().StringSliceVarP(&files, "filename", "f", nil, "file, folder or - (repeatable)")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "say what would change, and change nothing")
	return cmd
}

func (a *app) diffCommand() *cobra.Command {
	var files []string
	cmd := &cobra.Command{
		Use:     "diff -f FILE|FOLDER|-",
		Short:   "Say what apply would change",
		Long:    "Say what apply would change. Exit code 0: nothing; 1: there are changes; 2: the manifests have mistakes.",
		Example: "  evenkeel diff -f map/ && echo up to date",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			in, err := a.gather(files)
			if err != nil {
				return err
			}
			return a.ask(func(c *client.Client) error {
				r, err := c.Resources.Diff(cmd.Context(), &operatorv1.DiffRequest{Files: in})
				if err != nil {
					return err
				}
				if len(r.Problems) > 0 {
					return a.complain(r.Problems)
				}
				changes := slices.DeleteFunc(slices.Clone(r.Changes), func(c *operatorv1.Change) bool { return c.Verb == "unchanged" })
				if err := a.show(r, func(w io.Writer) { changeTable(w, changes) }); err != nil {
					return err
				}
				if len(changes) > 0 {
					return &exitError{code: ExitFailed}
				}
				a.hint("no difference")
				return nil
			})
		},
	}
	cmd.Flags().StringSliceVarP(&files, "filename", "f", nil, "file, folder or - (repeatable)")
	return cmd
}

// splitRef reads "service/checkout" or "service checkout".
func splitRef(args []string) (kind, name string, err error) {
	if len(args) == 2 {
		return args[0], args[1], nil
	}
	kind, name, ok := strings.Cut(args[0], "/")
	if !ok || kind == "" || name == "" {
		return "", "", usage("%q is not a reference: expected KIND/NAME, such as service/checkout", args[0])
	}
	return kind, name, nil
}

func (a *app) getCommand() *cobra.Command {
	var selector string
	cmd := &cobra.Command{
		Use:   "get [KIND[/NAME]]",
		Short: "List resources, or show one",
		Example: `  evenkeel get
  evenkeel get services -l env=prod
  evenkeel get service/checkout -o yaml`,
		Args: cobra.MaximumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.ask(func(c *client.Client) error {
				if len(args) == 2 || len(args) == 1 && strings.Contains(args[0], "/") {
					kind, name, err := splitRef(args)
					if err != nil {
						return err
					}
					r, err := c.Resources.GetResource(cmd.Context(), &operatorv1.GetResourceRequest{Kind: kind, Name: name})
					if err != nil {
						return err
					}
					return a.show(r, func(w io.Writer) { resourceTable(w, []*operatorv1.Resource{r}) })
				}
				kind := ""
				if len(args) == 1 {
					kind = args[0]
				}
				all := &operatorv1.ListResourcesResponse{}
				for token := ""; ; {
					r, err := c.Resources.ListResources(cmd.Context(), &operatorv1.ListResourcesRequest{Kind: kind, Selector: selector, PageToken: token})
					if err != nil {
						return err
					}
					all.Resources = append(all.Resources, r.Resources...)
					if token = r.NextPageToken; token == "" {
						break
					}
				}
				switch {
				case len(all.Resources) > 0:
				case selector != "":
					a.hint("nothing has the labels %s", selector)
				default:
					a.hint("nothing there yet: evenkeel apply -f FILE makes some")
				}
				return a.show(all, func(w io.Writer) { resourceTable(w, all.Resources) })
			})
		},
	}
	cmd.Flags().StringVarP(&selector, "selector", "l", "", "labels, such as env=prod,role=web")
	return cmd
}

func resourceTable(w io.Writer, all []*operatorv1.Resource) {
	if len(all) == 0 {
		return
	}
	fmt.Fprintln(w, "REF\tCHANGED\tBY\tLABELS\tPRICED\tFORMERLY")
	for _, r := range all {
		priced := ""
		if r.PricedBy != "" {
			priced = when(r.PricedAt) + " by " + r.PricedBy
		}
		fmt.Fprintf(w, "%s/%s\t%s\t%s\t%s\t%s\t%s\n", strings.ToLower(r.Kind), r.Metadata.GetName(), when(r.ChangedAt), dash(r.ChangedBy),
			dash(labels(r.Metadata.GetLabels())), dash(priced), dash(strings.Join(r.FormerRefs, ", ")))
	}
}

func labels(m map[string]string) string {
	pairs := make([]string, 0, len(m))
	for k, v := range m {
		pairs = append(pairs, k+"="+v)
	}
	slices.Sort(pairs)
	return strings.Join(pairs, ",")
}

func (a *app) deleteCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "delete KIND/NAME",
		Short: "Delete a resource",
		Example: `  evenkeel delete service/checkout
  evenkeel delete remediationpolicy relieve-host`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			kind, name, err := splitRef(args)
			if err != nil {
				return err
			}
			return a.ask(func(c *client.Client) error {
				r, err := c.Resources.DeleteResource(cmd.Context(), &operatorv1.DeleteResourceRequest{Kind: kind, Name: name})
				if err != nil {
					return err
				}
				return a.show(r, func(w io.Writer) { fmt.Fprintf(w, "%s\tdeleted\n", r.Ref) })
			})
		},
	}
	return cmd
}

func (a *app) describeCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "describe KIND/NAME",
		Short: "Show a resource: of services, components and hosts with their health and its causes",
		Example: `  evenkeel describe service/checkout
  evenkeel describe host/web-1`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			kind, name, err := splitRef(args)
			if err != nil {
				return err
			}
			// Those that are drawn are told by name; the collector knows every other spelling.
			switch k := strings.TrimSuffix(strings.ToLower(kind), "s"); k {
			case "host", "service", "component":
				kind = k
			}
			return a.ask(func(c *client.Client) error {
				if kind == "host" {
					h, err := c.Hosts.GetHost(cmd.Context(), &operatorv1.GetHostRequest{Name: name})
					if err != nil {
						return err
					}
					return a.show(h, func(w io.Writer) { hostDetail(w, h) })
				}
				r, err := c.Resources.GetResource(cmd.Context(), &operatorv1.GetResourceRequest{Kind: kind, Name: name})
				if err != nil {
					return err
				}
				if a.output != "table" || kind != "service" && kind != "component" {
					saved := a.output
					if saved == "table" {
						a.output = "yaml"
					}
					defer func() { a.output = saved }()
					return a.show(r, nil)
				}
				m, err := c.Map.GetMap(cmd.Context(), &operatorv1.GetMapRequest{Root: kind + "/" + name})
				if err != nil {
					return err
				}
				return a.show(m, func(w io.Writer) { mapTree(w, m, kind+"/"+name) })
			})
		},
	}
}
