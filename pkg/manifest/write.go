package manifest

import (
	"bytes"
	"fmt"

	"github.com/goccy/go-yaml"
)

// YAML writes resources as documents of one file, in the order given. Parse reads them again as they are.
func YAML(resources ...*Resource) ([]byte, error) {
	var out bytes.Buffer
	for i, r := range resources {
		doc, err := Encode(r)
		if err != nil {
			return nil, err
		}
		text, err := yaml.JSONToYAML(doc)
		if err != nil {
			return nil, fmt.Errorf("cannot write %s: %w", r.Ref(), err)
		}
		if i > 0 {
			out.WriteString("---\n")
		}
		out.Write(text)
	}
	return out.Bytes(), nil
}
