package outside

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// The bounds of one message from outside.
const (
	MaxBody          = 4 << 20
	maxAlertsInBody  = 5000
	maxLabels        = 64
	maxLabelsBytes   = 8 << 10
	maxIdentifier    = 200
	webhookVersion   = "4"
	statusFiring     = "firing"
	statusResolved   = "resolved"
	annotationsOrder = "summary description message"
)

// Message is what a webhook of alerts said.
type Message struct {
	Alerts []Alert
	// Left is how many alerts the sender left out of the message itself.
	Left int
}

// ReadAlertmanager reads the body that an Alertmanager posts to a webhook, in version 4 of its format. Fields that it does not need are
// passed over, since the format grows.
func ReadAlertmanager(body []byte) (Message, error) {
	var in struct {
		Version   string `json:"version"`
		Truncated int    `json:"truncatedAlerts"`
		Alerts    []struct {
			Status      string            `json:"status"`
			Labels      map[string]string `json:"labels"`
			Annotations map[string]string `json:"annotations"`
			StartsAt    time.Time         `json:"startsAt"`
			EndsAt      time.Time         `json:"endsAt"`
			Fingerprint string            `json:"fingerprint"`
		} `json:"alerts"`
	}
	if err := decode(body, &in, false); err != nil {
		return Message{}, err
	}
	if in.Version != webhookVersion {
		return Message{}, fmt.Errorf("version %q: expected %q, that of an Alertmanager's webhook", clean(in.Version), webhookVersion)
	}
	if len(in.Alerts) > maxAlertsInBody {
		return Message{}, fmt.Errorf("%d alerts in one message: the most is %d; set max_alerts of the webhook", len(in.Alerts), maxAlertsInBody)
	}
	out := Message{Left: max(0, in.Truncated)}
	for i, a := range in.Alerts {
		if a.Status != statusFiring && a.Status != statusResolved {
			return Message{}, fmt.Errorf("alerts[%d].status %q: expected firing or resolved", i, clean(a.Status))
		}
		if err := checkLabels(a.Labels); err != nil {
			return Message{}, fmt.Errorf("alerts[%d].labels: %w", i, err)
		}
		x := Alert{ID: a.Fingerprint, Labels: a.Labels, Firing: a.Status == statusFiring, Since: a.StartsAt.UTC()}
		if x.ID == "" {
			x.ID = fingerprint(a.Labels)
		}
		if len(x.ID) > maxIdentifier {
			return Message{}, fmt.Errorf("alerts[%d].fingerprint has %d bytes: the most is %d", i, len(x.ID), maxIdentifier)
		}
		for name := range strings.FieldsSeq(annotationsOrder) {
			if x.Text = clean(a.Annotations[name]); x.Text != "" {
				break
			}
		}
		out.Alerts = append(out.Alerts, x)
	}
	return out, nil
}

// fingerprint identifies an alert by its labels, for senders that do not.
func fingerprint(labels map[string]string) string {
	h := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		fmt.Fprintf(h, "%d:%s%d:%s", len(name), name, len(labels[name]), labels[name])
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

func checkLabels(labels map[string]string) error {
	if len(labels) == 0 {
		return errors.New("there is none")
	}
	if len(labels) > maxLabels {
		return fmt.Errorf("there are %d: the most is %d", len(labels), maxLabels)
	}
	total := 0
	for name, value := range labels {
		total += len(name) + len(value)
	}
	if total > maxLabelsBytes {
		return fmt.Errorf("they have %d bytes: the most is %d", total, maxLabelsBytes)
	}
	return nil
}

// decode reads one JSON value, with the place of a mistake in words.
func decode(body []byte, into any, strict bool) error {
	if len(body) > MaxBody {
		return fmt.Errorf("the body has %d bytes: the most is %d", len(body), MaxBody)
	}
	d := json.NewDecoder(strings.NewReader(string(body)))
	if strict {
		d.DisallowUnknownFields()
	}
	err := d.Decode(into)
	if err == nil && d.More() {
		err = errors.New("there is more after the message")
	}
	if err == nil {
		return nil
	}
	at := d.InputOffset()
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		at = syntax.Offset
	} else if typed, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		at = typed.Offset
		err = fmt.Errorf("%s must be %s, not %s", typed.Field, jsonName(typed.Type.Kind().String()), typed.Value)
	}
	line, column := position(body, at)
	return fmt.Errorf("line %d, column %d: %s", line, column, strings.TrimPrefix(err.Error(), "json: "))
}

func jsonName(kind string) string {
	switch kind {
	case "slice":
		return "a list"
	case "struct", "map":
		return "an object"
	case "int":
		return "a whole number"
	}
	return "a " + kind
}

func position(body []byte, at int64) (line, column int) {
	before := body[:min(max(at, 0), int64(len(body)))]
	text := string(before)
	return 1 + strings.Count(text, "\n"), len(text) - strings.LastIndexByte(text, '\n')
}
