package ctl

import (
	"context"
	"strings"

	"github.com/evenkeel/evenkeel/pkg/client"
	operatorv1 "github.com/evenkeel/evenkeel/proto/evenkeel/operator/v1"
)

const (
	idLength  = 26 // of a ULID
	minSuffix = 6
)

// actionID completes an id of which only the end was given.
func actionID(ctx context.Context, c *client.Client, id string) (string, error) {
	return complete("action", id, func() ([]string, error) {
		r, err := c.Actions.ListActions(ctx, &operatorv1.ListActionsRequest{})
		if err != nil {
			return nil, err
		}
		ids := make([]string, len(r.Actions))
		for i, a := range r.Actions {
			ids[i] = a.Id
		}
		return ids, nil
	})
}

// incidentID completes an id of which only the end was given.
func incidentID(ctx context.Context, c *client.Client, id string) (string, error) {
	return complete("incident", id, func() ([]string, error) {
		r, err := c.Incidents.ListIncidents(ctx, &operatorv1.ListIncidentsRequest{})
		if err != nil {
			return nil, err
		}
		ids := make([]string, len(r.Incidents))
		for i, x := range r.Incidents {
			ids[i] = x.Id
		}
		return ids, nil
	})
}

// complete finds the one id that ends in what was given. Ids begin with the time, so it is their ends that differ; six
// characters are asked for, so that a slip of the finger does not name another one.
func complete(what, given string, list func() ([]string, error)) (string, error) {
	if len(given) < minSuffix {
		return "", usage("%q is too short for the id of an %s: give all of it, or its last %d characters or more", given, what, minSuffix)
	}
	if len(given) >= idLength {
		return given, nil
	}
	all, err := list()
	if err != nil {
		return "", err
	}
	var found []string
	for _, id := range all {
		if len(id) >= len(given) && strings.EqualFold(id[len(id)-len(given):], given) {
			found = append(found, id)
		}
	}
	switch len(found) {
	case 0:
		return given, nil // the collector says that there is none
	case 1:
		return found[0], nil
	}
	return "", usage("%q could be %s: give more of it", given, strings.Join(found, " or "))
}
