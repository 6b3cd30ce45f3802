package manifest

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Read returns the files that paths name: a file, a folder with all *.yaml, *.yml and *.json below it, hidden ones left
// out, or "-" for stdin. A path that cannot be read is a problem of its own; so is a folder without a file.
func Read(paths []string, stdin io.Reader) ([]File, []Problem) {
	var files []File
	var problems []Problem
	bad := func(path string, err error) {
		var pe *fs.PathError
		if errors.As(err, &pe) {
			err = pe.Err
		}
		problems = append(problems, Problem{File: path, Text: fmt.Sprintf("cannot read: %v", err)})
	}
	add := func(path string) {
		f, err := os.Open(path)
		if err != nil {
			bad(path, err)
			return
		}
		defer f.Close()
		text, err := limited(f)
		if err != nil {
			bad(path, err)
			return
		}
		files = append(files, File{path, text})
	}
	for _, path := range paths {
		if path == "-" {
			text, err := limited(stdin)
			if err != nil {
				bad("<stdin>", err)
				continue
			}
			files = append(files, File{"<stdin>", text})
			continue
		}
		info, err := os.Stat(path)
		if err != nil {
			bad(path, err)
			continue
		}
		if !info.IsDir() {
			add(path)
			continue
		}
		found := 0
		err = filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
			hidden := p != path && strings.HasPrefix(d.Name(), ".")
			switch {
			case err != nil:
				bad(p, err)
			case d.IsDir() && hidden:
				return fs.SkipDir
			case !d.IsDir() && !hidden && slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(p)):
				found++
				add(p)
			}
			return nil
		})
		if err != nil {
			bad(path, err)
		} else if found == 0 {
			problems = append(problems, Problem{File: path, Text: "no *.yaml, *.yml or *.json in this folder"})
		}
	}
	return files, problems
}

// limited reads all that there is, up to one byte beyond what Parse accepts: Parse then tells of the size.
func limited(r io.Reader) ([]byte, error) { return io.ReadAll(io.LimitReader(r, maxFile+1)) }

// Load is Read and ParseFiles.
func Load(paths []string, stdin io.Reader) (*Set, []Problem) {
	files, problems := Read(paths, stdin)
	set, more := ParseFiles(files...)
	problems = append(problems, more...)
	sortProblems(problems)
	return set, problems
}

// CheckFiles is ParseFiles and Validate in one: all that is wrong with these files against what is there. The set is fit for
// use only where there is no problem.
func CheckFiles(files []File, existing *Set, hosts ...string) (*Set, []Problem) {
	set, problems := ParseFiles(files...)
	problems = append(problems, Validate(set, existing, hosts...)...)
	sortProblems(problems)
	return set, problems
}
