package outside

import (
	"fmt"
	"math"
	"strconv"

	"github.com/evenkeel/evenkeel/pkg/health"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// Judge returns what the answer to a query means: the worst level whose bounds hold, ok where none does. It is unknown unless there is
// exactly one value, and that a number: values are what the expression returned, of a vector one for each series.
func Judge(levels map[health.Level]manifest.Bounds, values []float64) (health.Range, string) {
	switch len(values) {
	case 0:
		return health.Unknown, "the query returned nothing"
	case 1:
	default:
		return health.Unknown, fmt.Sprintf("the query returned %d series: expected one, such as of sum(...)", len(values))
	}
	v := values[0]
	if math.IsNaN(v) {
		return health.Unknown, "the query returned NaN, which is no number"
	}
	text := strconv.FormatFloat(v, 'g', 6, 64)
	for l := health.Critical; l > health.OK; l-- {
		if b, ok := levels[l]; ok && b.Holds(v) {
			return health.Exactly(l), text + " is " + b.String()
		}
	}
	return health.Exactly(health.OK), text
}
