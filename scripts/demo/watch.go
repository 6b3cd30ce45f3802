package main

import (
	"context"
	"sync"

	operatorv1 "github.com/evenkeel/evenkeel/proto/evenkeel/operator/v1"
)

// watch prints what the collector says of incidents and actions as it happens, and passes the actions on. done ends it.
func (d *demo) watch(ctx context.Context) (<-chan *operatorv1.Action, func()) {
	ctx, cancel := context.WithCancel(ctx)
	out := make(chan *operatorv1.Action, 64)
	var all sync.WaitGroup
	all.Go(func() {
		s, err := d.API.Incidents.WatchIncidents(ctx, &operatorv1.ListIncidentsRequest{})
		if err != nil {
			return
		}
		told := map[string]int{}
		for {
			i, err := s.Recv()
			if err != nil {
				return
			}
			for _, e := range i.Timeline[min(told[i.Id], len(i.Timeline)):] {
				d.say("incident %s: %s", short(i.Id), e.What)
			}
			told[i.Id] = len(i.Timeline)
		}
	})
	all.Go(func() {
		s, err := d.API.Actions.WatchActions(ctx, &operatorv1.ListActionsRequest{})
		if err != nil {
			return
		}
		told := map[string]int{}
		for {
			a, err := s.Recv()
			if err != nil {
				return
			}
			for _, e := range a.Timeline[min(told[a.Id], len(a.Timeline)):] {
				d.say("action %s: %s", short(a.Id), e.What)
			}
			told[a.Id] = len(a.Timeline)
			select {
			case out <- a:
			case <-ctx.Done():
				return
			}
		}
	})
	return out, func() { cancel(); all.Wait() }
}

// short is the part of an id that tells two of one run apart.
func short(id string) string {
	if len(id) > 6 {
		return id[len(id)-6:]
	}
	return id
}
