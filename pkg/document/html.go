package document

import (
	"bytes"
	"encoding/csv"
	"html/template"
)

var page = template.Must(template.New("page").Parse(`<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{.Title}}</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; color: #1c2733; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.7rem; margin-bottom: 0; }
h2 { font-size: 1.25rem; border-bottom: 1px solid #c9d2da; margin-top: 2.2rem; }
h3 { font-size: 1.05rem; margin-top: 1.6rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 600; background: #eef2f5; }
th, td { padding: .3rem .6rem; border-bottom: 1px solid #dde4ea; vertical-align: top; }
th.number, td.number { text-align: right; }
@media print { body { margin: 0; max-width: none; font-size: 11px; } h2, h3 { break-after: avoid; } tr { break-inside: avoid; } thead { display: table-header-group; } }
</style>
</head>
<body>
<h1>{{.Title}}</h1>
<p>{{.Subtitle}}</p>
{{range .Sections}}{{if eq .Level 1}}<h2>{{.Heading}}</h2>{{else}}<h3>{{.Heading}}</h3>{{end}}
{{range .Text}}<p>{{.}}</p>
{{end}}{{with .Table}}{{$columns := .Columns}}<table>
<thead><tr>{{range .Columns}}<th{{if .Number}} class="number"{{end}} scope="col">{{.Name}}</th>{{end}}</tr></thead>
<tbody>
{{range .Rows}}<tr>{{range $i, $f := .}}<td{{if (index $columns $i).Number}} class="number"{{end}}>{{$f}}</td>{{end}}</tr>
{{end}}</tbody>
</table>
{{end}}{{end}}</body>
</html>
`))

// HTML writes a document as one HTML file that needs nothing beside it and runs no script.
func HTML(d *Document) ([]byte, error) {
	var b bytes.Buffer
	err := page.Execute(&b, d)
	return b.Bytes(), err
}

// CSV writes the tables of a document: for each a line with its heading, its columns, its rows, and an empty line between two. A field
// that a spreadsheet would take for a formula gets an apostrophe before it.
func CSV(d *Document) ([]byte, error) {
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	first := true
	for _, s := range d.Sections {
		if s.Table == nil {
			continue
		}
		if !first {
			w.Flush()
			b.WriteString("\n")
		}
		first = false
		head := make([]string, len(s.Table.Columns))
		for i, c := range s.Table.Columns {
			head[i] = plain(c.Name, false)
		}
		if err := w.Write([]string{plain(s.Heading, false)}); err != nil {
			return nil, err
		}
		if err := w.Write(head); err != nil {
			return nil, err
		}
		for _, r := range s.Table.Rows {
			row := make([]string, len(r))
			for i, f := range r {
				row[i] = plain(f, s.Table.Columns[i].Number)
			}
			if err := w.Write(row); err != nil {
				return nil, err
			}
		}
	}
	w.Flush()
	return b.Bytes(), w.Error()
}

func plain(s string, number bool) string {
	if s == "" || s == "-" || number && s[0] == '-' {
		return s
	}
	switch s[0] {
	case '=', '+', '-', '@', '\t', '\r':
		return "'" + s
	}
	return s
}
