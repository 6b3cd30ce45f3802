package outside

import (
	"errors"
	"fmt"
	"time"
)

// zabbixSeverities are the severities of a Zabbix by number, as the label severity has them.
var zabbixSeverities = [...]string{"not classified", "information", "warning", "average", "high", "disaster"}

// ReadZabbix reads the body that the media type under deploy/zabbix posts: one problem, or its end. The format is ours, so an unknown
// field is a mistake.
//
// The alert's labels are the tags of the event, of a tag with several values the first, and host, name and severity, which no tag hides.
func ReadZabbix(body []byte) (Message, error) {
	var in struct {
		Event     string `json:"event"`
		Status    string `json:"status"`
		Severity  *int   `json:"severity"`
		Host      string `json:"host"`
		Name      string `json:"name"`
		Text      string `json:"text"`
		StartedAt string `json:"startedAt"`
		Tags      []struct {
			Tag   string `json:"tag"`
			Value string `json:"value"`
		} `json:"tags"`
	}
	if err := decode(body, &in, true); err != nil {
		return Message{}, err
	}
	switch {
	case in.Event == "" || len(in.Event) > maxIdentifier:
		return Message{}, errors.New("event is missing: expected the number of the problem's event, {EVENT.ID}")
	case in.Status != "problem" && in.Status != statusResolved:
		return Message{}, fmt.Errorf("status %q: expected problem or resolved", clean(in.Status))
	case in.Severity == nil || *in.Severity < 0 || *in.Severity >= len(zabbixSeverities):
		return Message{}, errors.New("severity: expected 0 (not classified) to 5 (disaster), {EVENT.NSEVERITY}")
	case in.Host == "":
		return Message{}, errors.New("host is missing: expected the name of the host, {HOST.HOST}")
	}
	a := Alert{ID: in.Event, Firing: in.Status == "problem", Labels: map[string]string{}, Text: clean(in.Text)}
	if in.StartedAt != "" {
		t, err := time.Parse(time.RFC3339, in.StartedAt)
		if err != nil {
			return Message{}, fmt.Errorf("startedAt %q is not a time: expected RFC 3339, such as 2026-11-25T10:00:00Z", clean(in.StartedAt))
		}
		a.Since = t.UTC()
	}
	for _, t := range in.Tags {
		if _, ok := a.Labels[t.Tag]; !ok && t.Tag != "" {
			a.Labels[t.Tag] = t.Value
		}
	}
	a.Labels["host"], a.Labels["severity"] = in.Host, zabbixSeverities[*in.Severity]
	if delete(a.Labels, "name"); in.Name != "" {
		a.Labels["name"] = in.Name
	}
	if err := checkLabels(a.Labels); err != nil {
		return Message{}, fmt.Errorf("tags: %w", err)
	}
	return Message{Alerts: []Alert{a}}, nil
}
