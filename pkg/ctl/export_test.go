package ctl

import "github.com/spf13/cobra"

// Command is one command as its help describes it.
type Command struct {
	Path    []string
	Example string
	Short   string
	Ours    bool // not one that the library adds
}

// Commands returns every command, the root first.
func Commands() []Command {
	var all []Command
	var walk func(c *cobra.Command, path []string, ours bool)
	walk = func(c *cobra.Command, path []string, ours bool) {
		all = append(all, Command{path, c.Example, c.Short, ours})
		for _, sub := range c.Commands() {
			if !sub.Hidden {
				walk(sub, append(append([]string{}, path...), sub.Name()), ours && sub.Name() != "help" && sub.Name() != "completion")
			}
		}
	}
	walk((&app{}).root(), nil, true)
	return all
}
