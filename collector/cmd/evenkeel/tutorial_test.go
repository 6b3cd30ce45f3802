package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	tutorial = "../../../docs/tutorial.md"
	retail   = "../../../deploy/examples/retail"
)

// Every command of the tutorial is run in the folder of its example, and prints what stands there, byte for byte.
func TestTutorial(t *testing.T) {
	path, err := filepath.Abs(tutorial)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(retail)
	ran := 0
	got, err := rerun(string(text), *update, func(args []string) (string, int) {
		ran++
		out, errs, code := evenkeel(t, "", args...)
		return out + errs, code
	})
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), "$ evenkeel "); n != ran || ran < 10 {
		t.Errorf("%d commands stand there and %d were run", n, ran)
	}
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, has := strings.Split(string(text), "\n"), strings.Split(got, "\n")
	for i := range max(len(want), len(has)) {
		if i >= len(want) || i >= len(has) || want[i] != has[i] {
			t.Fatalf("line %d differs (run with -update and read the difference):\n%s\nis now\n%s", i+1, at(want, i), at(has, i))
		}
	}
}

// Whoever reads the tutorial has heard of every file of the example, and what they read of is there.
func TestTutorialNamesEveryFile(t *testing.T) {
	text, err := os.ReadFile(tutorial)
	if err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(retail)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !strings.Contains(string(text), "../deploy/examples/retail/"+f.Name()+")") {
			t.Errorf("%s is not linked", f.Name())
		}
	}
}

func at(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return "(nothing)"
}

// rerun runs the commands of a document and returns it with what they print now. They stand in blocks fenced as "console", after
// "$ ", and may go on after a backslash; "console exit=2" is a block whose last command ends with that code. Its errors are about
// the document: a command that is not run, one without output (unless fresh), one that a shell would read otherwise.
func rerun(doc string, fresh bool, run func(args []string) (out string, code int)) (string, error) {
	var out []string
	lines := strings.Split(doc, "\n")
	for i := 0; i < len(lines); i++ {
		out = append(out, lines[i])
		info, fence := strings.CutPrefix(lines[i], "```")
		if !fence {
			if strings.HasPrefix(strings.TrimSpace(lines[i]), "$ ") {
				return "", fmt.Errorf("line %d: a command outside of a console block is not run", i+1)
			}
			continue
		}
		end := slices.Index(lines[i+1:], "```")
		if end < 0 {
			return "", fmt.Errorf("line %d: the block has no end", i+1)
		}
		first, body := i+2, lines[i+1:i+1+end]
		i += 1 + end
		switch {
		case strings.HasPrefix(info, "console"):
			got, err := rerunBlock(body, first, strings.TrimSpace(info[len("console"):]), fresh, run)
			if err != nil {
				return "", err
			}
			out = append(out, got...)
		default:
			for k, l := range body {
				if strings.HasPrefix(strings.TrimPrefix(l, "$ "), "evenkeel ") {
					return "", fmt.Errorf("line %d: a command outside of a console block is not run", first+k)
				}
			}
			out = append(out, body...)
		}
		out = append(out, "```")
	}
	return strings.Join(out, "\n"), nil
}

func rerunBlock(body []string, first int, exit string, fresh bool, run func(args []string) (string, int)) ([]string, error) {
	var out []string
	code, want := 0, "exit=0"
	if exit != "" {
		want = exit
	}
	if len(body) == 0 || !strings.HasPrefix(body[0], "$ ") {
		return nil, fmt.Errorf("line %d: the block does not begin with a command", first)
	}
	for i := 0; i < len(body); {
		if code != 0 {
			return nil, fmt.Errorf("line %d: the command before ends with %d", first+i, code)
		}
		line, start := "", i
		for more := true; more && i < len(body); i++ {
			out = append(out, body[i])
			var part string
			part, more = strings.CutSuffix(body[i], "\\")
			line += part
		}
		args, err := words(strings.TrimPrefix(line, "$ "))
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", first+start, err)
		}
		had := i
		for i < len(body) && !strings.HasPrefix(body[i], "$ ") {
			i++
		}
		var text string
		text, code = run(args)
		text, whole := strings.CutSuffix(text, "\n")
		switch {
		case i == had && !fresh:
			return nil, fmt.Errorf("line %d: the command has no output", first+start)
		case !whole || text == "":
			return nil, fmt.Errorf("line %d: the command prints %q", first+start, text)
		case strings.Contains("\n"+text, "\n$ ") || strings.Contains("\n"+text, "\n```"):
			return nil, fmt.Errorf("line %d: what the command prints looks like a command, or like the end of the block", first+start)
		}
		out = append(out, strings.Split(text, "\n")...)
	}
	if got := fmt.Sprintf("exit=%d", code); got != want {
		return nil, fmt.Errorf("line %d: %s, and the block says %s: %s", first, got, want, strings.Join(out, "\n"))
	}
	return out, nil
}

// words splits a command into the arguments after its name; single quotes keep a word together.
func words(command string) ([]string, error) {
	var out []string
	for i, part := range strings.Split(command, "'") {
		switch {
		case i%2 == 1:
			out = append(out, part)
		case strings.ContainsAny(part, "|&;<>()$`\\\"*?~#"):
			return nil, fmt.Errorf("a shell would read %q otherwise", part)
		default:
			out = append(out, strings.Fields(part)...)
		}
	}
	if strings.Count(command, "'")%2 == 1 {
		return nil, errors.New("a quote is not closed")
	}
	if len(out) < 2 || out[0] != "evenkeel" {
		return nil, fmt.Errorf("%q is not a command of evenkeel", command)
	}
	return out[1:], nil
}

func TestRerunRefuses(t *testing.T) {
	run := func(args []string) (string, int) {
		switch args[0] {
		case "fail":
			return "no\n", 2
		case "silent":
			return "", 0
		}
		return strings.Join(args, ",") + "\n", 0
	}
	for _, tt := range []struct{ doc, says string }{
		{"```console\n$ evenkeel a 'b  c' \\\n    d\na,b  c,d\n```\n", ""},
		{"```console\n$ evenkeel a\na\n$ evenkeel b\nb\n```\n```yaml\nkind: Service\n```", ""},
		{"```console exit=2\n$ evenkeel fail\nno\n```\n", ""},
		{"```console\n$ evenkeel a\n```\n", "line 2: the command has no output"},
		{"```console\n$ evenkeel silent\nx\n```\n", `line 2: the command prints ""`},
		{"```console\n$ evenkeel fail\nno\n```\n", "exit=2, and the block says exit=0"},
		{"```console exit=2\n$ evenkeel fail\nno\n$ evenkeel a\na\n```\n", "line 4: the command before ends with 2"},
		{"```console\n```\n", "does not begin with a command"},
		{"```console\nevenkeel a\n```\n", "does not begin with a command"},
		{"```console\n$ evenkeel a\na\n", "the block has no end"},
		{"```sh\nevenkeel a\n```\n", "line 2: a command outside"},
		{"text\n    $ evenkeel a\n", "line 2: a command outside"},
		{"```console\n$ evenkeel a | less\na\n```\n", "a shell would read"},
		{"```console\n$ evenkeel 'a\na\n```\n", "not closed"},
		{"```console\n$ ls\na\n```\n", "is not a command of evenkeel"},
	} {
		got, err := rerun(tt.doc, false, run)
		if tt.says == "" && (err != nil || got != tt.doc) || tt.says != "" && (err == nil || !strings.Contains(err.Error(), tt.says)) {
			t.Errorf("%q: %v, %q", tt.doc, err, got)
		}
	}
	if got, err := rerun("```console\n$ evenkeel a\nold\n```\n", false, run); err != nil || got != "```console\n$ evenkeel a\na\n```\n" {
		t.Errorf("%v, %q", err, got)
	}
}
