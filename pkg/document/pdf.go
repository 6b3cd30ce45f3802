package document

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"codeberg.org/go-pdf/fpdf"
	"golang.org/x/image/font/gofont/gobold"
	"golang.org/x/image/font/gofont/goregular"
)

// The page is A4 upright; lengths are in millimetres, sizes of type in points.
const (
	margin   = 16.0
	wide     = 210 - 2*margin
	leading  = 4.4
	padding  = 1.2
	bodySize = 8.5
)

// PDF writes a document as PDF. Its typeface has the Latin, Greek and Cyrillic scripts; signs that it lacks are shown as a question mark.
func PDF(d *Document) ([]byte, error) {
	date, err := time.Parse(time.RFC3339, d.Date)
	if err != nil {
		return nil, fmt.Errorf("the date of the document: %w", err)
	}
	p := &pdf{Fpdf: fpdf.New("P", "mm", "A4", "")}
	p.SetCatalogSort(true)
	p.SetCreationDate(date.UTC())
	p.SetModificationDate(date.UTC())
	p.SetProducer("Evenkeel", true)
	p.SetTitle(shown(d.Title), true)
	p.SetLang("en")
	p.AddUTF8FontFromBytes("go", "", goregular.TTF)
	p.AddUTF8FontFromBytes("go", "B", gobold.TTF)
	p.SetMargins(margin, margin, margin)
	p.SetAutoPageBreak(true, margin)
	p.AliasNbPages("{pages}")
	p.SetFooterFunc(func() {
		p.SetY(-12)
		p.SetFont("go", "", 7)
		p.CellFormat(wide/2, 4, shown(d.Title), "", 0, "L", false, 0, "")
		p.CellFormat(wide/2, 4, fmt.Sprintf("%d of {pages}", p.PageNo()), "", 0, "R", false, 0, "")
	})
	p.AddPage()
	p.SetFont("go", "B", 17)
	p.MultiCell(wide, 8, shown(d.Title), "", "L", false)
	p.SetFont("go", "", 9.5)
	p.MultiCell(wide, 5, shown(d.Subtitle), "", "L", false)
	for i := range d.Sections {
		p.section(&d.Sections[i])
	}
	var b bytes.Buffer
	if err := p.Output(&b); err != nil {
		return nil, fmt.Errorf("cannot write PDF: %w", err)
	}
	return b.Bytes(), nil
}

type pdf struct{ *fpdf.Fpdf }

// shown replaces what the typeface has no sign for.
func shown(s string) string {
	out := []rune(s)
	for i, r := range out {
		if r >= 0x500 && !(r >= 0x2010 && r <= 0x2044) && r != '€' && r != '™' && r != '−' && r != '≤' && r != '≥' || r < ' ' {
			out[i] = '?'
		}
	}
	return string(out)
}

func (p *pdf) section(s *Section) {
	size, before := 13.0, 5.0
	if s.Level > 1 {
		size, before = 10.5, 3.0
	}
	if p.GetY()+before+30 > 297-margin {
		p.AddPage() // no heading at the foot of a page
	} else {
		p.Ln(before)
	}
	p.SetFont("go", "B", size)
	p.MultiCell(wide, 6, shown(s.Heading), "", "L", false)
	p.SetFont("go", "", bodySize)
	for _, t := range s.Text {
		p.MultiCell(wide, leading, shown(t), "", "L", false)
		p.Ln(0.8)
	}
	if s.Table != nil {
		p.table(s.Table)
	}
}

// widths divides the page among columns by what stands in them: each gets what it needs, or else the room of its longest word and a share of
// the rest; where not even the words fit, all shrink alike.
func (p *pdf) widths(t *Table) []float64 {
	need, least := make([]float64, len(t.Columns)), make([]float64, len(t.Columns))
	total, words := 0.0, 0.0
	for i, c := range t.Columns {
		measure := func(style, s string) {
			p.SetFont("go", style, bodySize)
			need[i] = max(need[i], p.GetStringWidth(s)+2*padding+0.5)
			for word := range strings.FieldsSeq(s) {
				least[i] = max(least[i], p.GetStringWidth(word)+2*padding+0.5)
			}
		}
		measure("B", shown(c.Name))
		for _, r := range t.Rows {
			measure("", shown(r[i]))
		}
		total, words = total+need[i], words+least[i]
	}
	if total <= wide {
		return need
	}
	for i := range need {
		if words >= wide {
			need[i] = least[i] * wide / words
		} else {
			need[i] = least[i] + (need[i]-least[i])*(wide-words)/(total-words)
		}
	}
	return need
}

func (p *pdf) table(t *Table) {
	widths := p.widths(t)
	head := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		head[i] = c.Name
	}
	p.row(t, widths, head, true)
	for _, r := range t.Rows {
		if p.GetY()+p.height(widths, r) > 297-margin {
			p.AddPage()
			p.row(t, widths, head, true)
		}
		p.row(t, widths, r, false)
	}
	p.Ln(1)
}

func (p *pdf) height(widths []float64, fields []string) float64 {
	lines := 1
	for i, f := range fields {
		lines = max(lines, len(p.lines(f, widths[i])))
	}
	return float64(lines)*leading + padding
}

// lines breaks a field at spaces, and a word that is too long for its column anywhere.
func (p *pdf) lines(field string, width float64) []string {
	text := []rune(shown(field))
	var out []string
	for len(text) > 0 {
		n, space := 0, -1
		for n < len(text) && p.GetStringWidth(string(text[:n+1])) <= width-2*padding {
			if text[n] == ' ' {
				space = n
			}
			n++
		}
		switch {
		case n == len(text):
			return append(out, string(text))
		case text[n] == ' ':
			space = n
		case space < 0:
			n = max(n, 1)
			out, text = append(out, string(text[:n])), text[n:]
			continue
		}
		out, text = append(out, string(text[:space])), text[space+1:]
	}
	return out
}

func (p *pdf) row(t *Table, widths []float64, fields []string, head bool) {
	style := ""
	if head {
		style = "B"
		p.SetFillColor(238, 242, 245)
	}
	p.SetFont("go", style, bodySize)
	x, y, h := margin, p.GetY(), p.height(widths, fields)
	for i, f := range fields {
		if head {
			p.Rect(x, y, widths[i], h, "F")
		}
		align := "L"
		if t.Columns[i].Number {
			align = "R"
		}
		for n, l := range p.lines(f, widths[i]) {
			p.SetXY(x+padding, y+padding/2+float64(n)*leading)
			p.CellFormat(widths[i]-2*padding, leading, l, "", 0, align, false, 0, "")
		}
		x += widths[i]
	}
	p.SetDrawColor(205, 213, 220)
	p.Line(margin, y+h, x, y+h)
	p.SetXY(margin, y+h)
}
