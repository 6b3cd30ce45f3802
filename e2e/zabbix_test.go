//go:build e2e

package e2e

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/evenkeel/evenkeel/e2e/rig"
)

const zabbixMap = `apiVersion: evenkeel/v1
kind: Service
metadata: {name: shop}
spec: {criticality: 1, value: {perHour: 600, currency: EUR}, dependsOn: [{ref: component/db}]}
---
apiVersion: evenkeel/v1
kind: Component
metadata: {name: db}
spec: {source: {zabbix: {matchLabels: {host: db-1, service: shop}}}}
`

// zabbixSQL is what the pages of a Zabbix would have written: a host with an item that is sent to it, a trigger with a tag, and an action that
// tells one user of problems and their ends.
const zabbixSQL = `
insert into hstgrp (groupid, name, internal) values (1, 'Discovered hosts', 1), (2, 'Shop', 0);
insert into config (configid, discovery_groupid, instanceid, session_key) values (1, 1, 'e2e', 'e2e');
insert into role (roleid, name, type, readonly) values (3, 'Super admin role', 3, 1);
insert into users (userid, username, passwd, roleid) values (1, 'Admin', '', 3);
insert into hosts (hostid, host, name, name_upper) values (10, 'db-1', 'Database one', 'DATABASE ONE');
insert into hosts_groups (hostgroupid, hostid, groupid) values (1, 10, 2);
insert into items (itemid, type, hostid, name, key_, value_type, delay, name_upper) values (20, 2, 10, 'Queue', 'queue', 3, '0', 'QUEUE');
insert into item_rtdata (itemid) values (20);
insert into triggers (triggerid, expression, description, priority, opdata) values (30, '{40}>100', 'Queue too long on {HOST.HOST}', 4, 'The queue is {ITEM.LASTVALUE1} long');
insert into functions (functionid, itemid, triggerid, name, parameter) values (40, 20, 30, 'last', '$');
insert into trigger_tag (triggertagid, triggerid, tag, value) values (1, 30, 'service', 'shop');
insert into actions (actionid, name, eventsource, esc_period) values (50, 'Tell Evenkeel', 0, '60s');
insert into operations (operationid, actionid, operationtype, recovery) values (51, 50, 0, 0), (52, 50, 11, 1);
insert into opmessage (operationid, default_msg, mediatypeid) values (51, 1, 60), (52, 1, null);
insert into opmessage_usr (opmessage_usrid, operationid, userid) values (1, 51, 1);
insert into media (mediaid, userid, mediatypeid, sendto) values (1, 1, 60, 'evenkeel');
`

// mediaType returns the SQL of the shipped media type, with our address and token, as an import would write it.
func mediaType(t *testing.T, address, token string) string {
	t.Helper()
	var file struct {
		Export struct {
			MediaTypes []struct {
				Name, Type, Script, Attempts string
				Interval                     string `yaml:"attempt_interval"`
				Parameters                   []struct{ Name, Value string }
				Templates                    []struct {
					Mode             string `yaml:"operation_mode"`
					Subject, Message string
				} `yaml:"message_templates"`
			} `yaml:"media_types"`
		} `yaml:"zabbix_export"`
	}
	if err := yaml.Unmarshal([]byte(rig.Read(t, filepath.Join(rig.Root(t), "deploy/zabbix/media_evenkeel.yaml"))), &file); err != nil {
		t.Fatal(err)
	}
	m := file.Export.MediaTypes[0]
	if m.Type != "WEBHOOK" {
		t.Fatalf("the media type is a %s", m.Type)
	}
	quote := func(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
	var b strings.Builder
	fmt.Fprintf(&b, "insert into media_type (mediatypeid, type, name, script, maxattempts, attempt_interval) values (60, 4, %s, %s, %s, '1s');\n", quote(m.Name), quote(m.Script), m.Attempts)
	for i, p := range m.Parameters {
		switch p.Name {
		case "token":
			p.Value = token
		case "url":
			p.Value = address
		}
		fmt.Fprintf(&b, "insert into media_type_param (mediatype_paramid, mediatypeid, name, value) values (%d, 60, %s, %s);\n", i+1, quote(p.Name), quote(p.Value))
	}
	for i, x := range m.Templates {
		recovery := map[string]int{"PROBLEM": 0, "RECOVERY": 1, "UPDATE": 2}[x.Mode]
		fmt.Fprintf(&b, "insert into media_type_message (mediatype_messageid, mediatypeid, eventsource, recovery, subject, message) values (%d, 60, 0, %d, %s, %s);\n", i+1, recovery, quote(x.Subject), quote(x.Message))
	}
	return b.String()
}

// zabbixSend sends a value of an item to a Zabbix, as zabbix_sender does, and returns what it answers.
func zabbixSend(address, host, key, value string) (string, error) {
	body, err := json.Marshal(map[string]any{"request": "sender data", "data": []map[string]string{{"host": host, "key": key, "value": value}}})
	if err != nil {
		return "", err
	}
	c, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		return "", err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return "", err
	}
	head := append([]byte("ZBXD\x01"), binary.LittleEndian.AppendUint64(nil, uint64(len(body)))...)
	if _, err := c.Write(append(head, body...)); err != nil {
		return "", err
	}
	answer, err := io.ReadAll(c)
	if err != nil || len(answer) < 13 {
		return "", fmt.Errorf("%d bytes: %w", len(answer), err)
	}
	return string(answer[13:]), nil
}

// freeLow returns a port below 32768 that nobody has now: a Zabbix takes no other.
func freeLow(t *testing.T) string {
	t.Helper()
	for n := 20_000; n < 32_000; n++ {
		port := strconv.Itoa(n)
		if l, err := net.Listen("tcp", "127.0.0.1:"+port); err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal("no port below 32000 is free")
	return ""
}

// Debian's own Zabbix server, with the shipped media type: a value goes beyond the bound of a trigger, and a component, its service and an
// incident follow; it returns, and they are well.
func TestZabbix(t *testing.T) {
	dir := rig.Folder(t)
	c := rig.NewCollector(t, "127.0.0.1")
	c.Run(t)
	r := &outsideRig{t, c}
	rig.Write(t, filepath.Join(dir, "map.yaml"), zabbixMap)
	if out, errs, code := c.Evenkeel(t, "apply", "-f", filepath.Join(dir, "map.yaml")); code != 0 {
		t.Fatalf("apply: %d\n%s%s", code, out, errs)
	}
	token, _ := c.Token(t, "signaller")
	r.becomes(10*time.Second, "nothing is known", map[string]string{"component/db": "unknown"})

	// The database runs as nobody, since it refuses to run as root.
	const bin = "usr/lib/postgresql/15/bin/"
	nobody := []string{"--reuid", "65534", "--regid", "65534", "--clear-groups"}
	as := func(path string, args ...string) *rig.Process {
		cmd := rig.Foreign(t, bin+path, args...)
		for i, a := range cmd.Args { // the last words of the shell's script are the program and its own
			if strings.HasSuffix(a, bin+path) {
				cmd.Args = append(append(append([]string{}, cmd.Args[:i]...), append([]string{"setpriv"}, nobody...)...), cmd.Args[i:]...)
				break
			}
		}
		return rig.StartCmd(t, cmd)
	}
	data := filepath.Join(dir, "data")
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, data} {
		if err := os.Chown(path, 65534, 65534); err != nil {
			t.Fatal(err)
		}
	}
	// ended waits for a program and wants it to have done well.
	ended := func(p *rig.Process) {
		t.Helper()
		if code := p.Wait(t, 120*time.Second); code != 0 {
			t.Fatalf("exit code %d: %s", code, p.Output())
		}
	}
	ended(as("initdb", "-D", data, "--locale=C", "-E", "UTF8", "-A", "trust", "-U", "zabbix"))
	as("postgres", "-D", data, "-k", dir, "-c", "listen_addresses=", "-c", "fsync=off", "-c", "shared_buffers=32MB")
	psql := func(database string, args ...string) *rig.Process {
		return rig.StartCmd(t, rig.Foreign(t, bin+"psql", append([]string{"-q", "-v", "ON_ERROR_STOP=1", "-h", dir, "-U", "zabbix", database}, args...)...))
	}
	rig.Until(t, 30*time.Second, "the database is up", func() string {
		p := psql("postgres", "-c", "select 1")
		if code := p.Wait(t, 10*time.Second); code != 0 {
			return p.Output()
		}
		return ""
	})
	ended(psql("postgres", "-c", "create database zabbix"))
	share := rig.Cached(t, "monitoring/root/usr/share/zabbix-server-pgsql")
	schema := filepath.Join(dir, "schema.sql")
	rig.Must(t, "sh", "-c", "zcat "+filepath.Join(share, "schema.sql.gz")+" >"+schema)
	ended(psql("zabbix", "-o", os.DevNull, "-f", schema))
	setup := filepath.Join(dir, "setup.sql")
	rig.Write(t, setup, mediaType(t, c.REST(t), token)+zabbixSQL)
	ended(psql("zabbix", "-f", setup))

	port := freeLow(t)
	address := "127.0.0.1:" + port
	conf := filepath.Join(dir, "zabbix.conf")
	rig.Write(t, conf, fmt.Sprintf(`LogType=console
AllowRoot=1
ListenIP=127.0.0.1
ListenPort=%s
SocketDir=%s
DBHost=%s
DBName=zabbix
DBUser=zabbix
StartPollers=1
StartPingers=0
StartDiscoverers=0
StartHTTPPollers=0
CacheUpdateFrequency=1
`, port, dir, dir))
	rig.StartCmd(t, rig.Foreign(t, "usr/sbin/zabbix_server", "-f", "-c", conf))

	send := func(value int) {
		t.Helper()
		rig.Until(t, 60*time.Second, "Zabbix takes a value", func() string {
			answer, err := zabbixSend(address, "db-1", "queue", strconv.Itoa(value))
			if err != nil {
				return err.Error()
			}
			if !strings.Contains(answer, "processed: 1; failed: 0") {
				return answer
			}
			return ""
		})
	}
	send(812)
	t.Logf("value to service in %s", r.becomes(60*time.Second, "the problem is seen", map[string]string{"component/db": "major", "service/shop": "major"}))
	var m mapAnswer
	c.JSON(t, &m, "map")
	if len(m.Causes) != 1 || m.Causes[0].Ref != "component/db" || !strings.Contains(m.Causes[0].Text, "Queue too long on db-1 since "+time.Now().UTC().Format("2006-")) ||
		!strings.Contains(m.Causes[0].Text, "The queue is 812 long") {
		t.Errorf("causes: %+v", m.Causes)
	}
	var in incidentsAnswer
	c.JSON(t, &in, "incident", "list")
	if len(in.Incidents) != 1 || in.Incidents[0].Cause != "component/db" || in.Incidents[0].State != "open" || strings.Join(in.Incidents[0].Services, " ") != "service/shop" {
		t.Errorf("incidents: %+v", in)
	}
	send(3)
	r.becomes(60*time.Second, "the end of the problem is seen", map[string]string{"component/db": "ok", "service/shop": "ok"})
}
