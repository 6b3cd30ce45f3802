package api_test

import (
	"bufio"
	"context"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/evenkeel/evenkeel/collector/api"
	"github.com/evenkeel/evenkeel/pkg/client"
	operatorv1 "github.com/evenkeel/evenkeel/proto/evenkeel/operator/v1"
)

// next lets every watcher send one more item.
func (w *world) next() {
	w.Helper()
	select {
	case <-w.feed:
	case <-time.After(time.Minute):
		w.Fatal("nobody watches")
	}
}

func TestWatchSendsUntilItsContextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		ctx, cancel := context.WithCancel(w.as("viewer"))
		defer cancel()
		conn := w.dial()
		actions, err := operatorv1.NewActionServiceClient(conn).WatchActions(ctx, &operatorv1.ListActionsRequest{Host: "web-1"})
		must(t, err)
		for range 3 {
			a, err := actions.Recv()
			must(t, err)
			if a.Id != actionA || a.Phase != "active" {
				t.Errorf("got %v", a)
			}
			w.next()
		}
		cancel()
		for err == nil { // what was under way still comes
			_, err = actions.Recv()
		}
		if status.Code(err) != codes.Canceled {
			t.Errorf("after the end: %v", err)
		}
		synctest.Wait()
		select {
		case <-w.feed:
			t.Error("the collector goes on watching for nobody")
		default:
		}
	})
}

func TestWatchFilters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		ctx, cancel := context.WithCancel(w.as("viewer"))
		defer cancel()
		conn := w.dial()
		incidents, err := operatorv1.NewIncidentServiceClient(conn).WatchIncidents(ctx, &operatorv1.ListIncidentsRequest{Host: "other"})
		must(t, err)
		got := make(chan error, 1)
		go func() {
			_, err := incidents.Recv()
			got <- err
		}()
		for range 3 {
			w.next()
		}
		synctest.Wait()
		select {
		case err := <-got:
			t.Errorf("an incident of another host came: %v", err)
		default:
		}
		cancel()
		<-got
		bad, err := operatorv1.NewIncidentServiceClient(conn).WatchIncidents(w.as("viewer"), &operatorv1.ListIncidentsRequest{State: "new"})
		must(t, err)
		if _, err := bad.Recv(); status.Code(err) != codes.InvalidArgument {
			t.Errorf("a state that there is not: %v", err)
		}
	})
}

// A map that has not changed is not sent again, and one that changes all the time is sent a few times a second.
func TestWatchMap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		ctx, cancel := context.WithCancel(w.as("viewer"))
		defer cancel()
		stream, err := operatorv1.NewMapServiceClient(w.dial()).WatchMap(ctx, &operatorv1.GetMapRequest{})
		must(t, err)
		first, err := stream.Recv()
		must(t, err)
		if len(first.Nodes) != 4 { // the service, the component, its member, the host
			t.Errorf("%d nodes: %v", len(first.Nodes), first.Nodes)
		}
		more := make(chan error, 1)
		go func() {
			_, err := stream.Recv()
			more <- err
		}()
		for range 5 {
			w.fake.mu.Lock()
			close(w.changed)
			w.changed = make(chan struct{})
			w.fake.mu.Unlock()
			<-time.After(time.Second)
		}
		select {
		case err := <-more:
			t.Errorf("the same map was sent again: %v", err)
		default:
		}
		cancel()
		if err := <-more; status.Code(err) != codes.Canceled {
			t.Errorf("after the end: %v", err)
		}
	})
}

func TestWatchByREST(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		r, err := http.NewRequestWithContext(ctx, "GET", "http://keel:8420/api/v1/actions:watch?phase=active", nil)
		must(t, err)
		r.Header.Set("Authorization", "Bearer viewer")
		resp, err := w.http.Do(r)
		must(t, err)
		defer resp.Body.Close()
		one, err := operatorv1.NewActionServiceClient(w.dial()).GetAction(w.as("viewer"), &operatorv1.GetActionRequest{Id: actionA})
		must(t, err)
		want, err := client.JSON(one)
		must(t, err)
		lines := bufio.NewScanner(resp.Body)
		for range 2 {
			if !lines.Scan() || lines.Text() != `{"result":`+string(want)+`}` {
				t.Fatalf("a line is %s\nwanted the action under result: %s", lines.Text(), want)
			}
			w.next()
		}
		cancel()
		for lines.Scan() {
		}
		if lines.Err() == nil {
			t.Error("the answer ended by itself")
		}
	})
}

// A stop ends the watchers at once; it does not wait for what never ends.
func TestStopEndsWatchers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		stream, err := operatorv1.NewActionServiceClient(w.dial()).WatchActions(w.as("viewer"), &operatorv1.ListActionsRequest{})
		must(t, err)
		_, err = stream.Recv()
		must(t, err)
		r, err := http.NewRequestWithContext(t.Context(), "GET", "http://keel:8420/api/v1/incidents:watch", nil)
		must(t, err)
		r.Header.Set("Authorization", "Bearer viewer")
		resp, err := w.http.Do(r)
		must(t, err)
		defer resp.Body.Close()
		lines := bufio.NewScanner(resp.Body)
		if !lines.Scan() || !strings.HasPrefix(lines.Text(), `{"result":`) {
			t.Fatalf("the first line is %q, %v", lines.Text(), lines.Err())
		}
		began := time.Now()
		must(t, w.stop())
		if took := time.Since(began); took >= api.StopTimeout {
			t.Errorf("the stop took %s", took)
		}
		for err == nil {
			_, err = stream.Recv()
		}
		if status.Code(err) != codes.Unavailable {
			t.Errorf("the watcher is told %v", err)
		}
	})
}
