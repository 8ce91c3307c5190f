package telemetry

import (
	"bytes"
	"context"
	"errors"
	"strings"

	"semantos/internal/tune"
)

// The counters of /proc/net/snmp, netstat and snmp6 of the kernels in use, by section. A field these
// lists lack is not delivered.
const (
	snmpTCP = `ActiveOpens PassiveOpens AttemptFails EstabResets CurrEstab InSegs OutSegs RetransSegs InErrs OutRsts InCsumErrors`
	extTCP  = `SyncookiesSent SyncookiesRecv SyncookiesFailed EmbryonicRsts PruneCalled RcvPruned OfoPruned OutOfWindowIcmps
LockDroppedIcmps ArpFilter TW TWRecycled TWKilled PAWSActive PAWSEstab BeyondWindow TSEcrRejected PAWSOldAck PAWSTimewait
DelayedACKs DelayedACKLocked DelayedACKLost ListenOverflows ListenDrops TCPHPHits TCPPureAcks TCPHPAcks TCPRenoRecovery
TCPSackRecovery TCPSACKReneging TCPSACKReorder TCPRenoReorder TCPTSReorder TCPFullUndo TCPPartialUndo TCPDSACKUndo
TCPLossUndo TCPLostRetransmit TCPRenoFailures TCPSackFailures TCPLossFailures TCPFastRetrans TCPSlowStartRetrans TCPTimeouts
TCPLossProbes TCPLossProbeRecovery TCPRenoRecoveryFail TCPSackRecoveryFail TCPRcvCollapsed TCPBacklogCoalesce TCPDSACKOldSent
TCPDSACKOfoSent TCPDSACKRecv TCPDSACKOfoRecv TCPAbortOnData TCPAbortOnClose TCPAbortOnMemory TCPAbortOnTimeout
TCPAbortOnLinger TCPAbortFailed TCPMemoryPressures TCPMemoryPressuresChrono TCPSACKDiscard TCPDSACKIgnoredOld
TCPDSACKIgnoredNoUndo TCPSpuriousRTOs TCPMD5NotFound TCPMD5Unexpected TCPMD5Failure TCPSackShifted TCPSackMerged
TCPSackShiftFallback TCPBacklogDrop PFMemallocDrop TCPMinTTLDrop TCPDeferAcceptDrop IPReversePathFilter TCPTimeWaitOverflow
TCPReqQFullDoCookies TCPReqQFullDrop TCPRetransFail TCPRcvCoalesce TCPOFOQueue TCPOFODrop TCPOFOMerge TCPChallengeACK
TCPSYNChallenge TCPFastOpenActive TCPFastOpenActiveFail TCPFastOpenPassive TCPFastOpenPassiveFail TCPFastOpenListenOverflow
TCPFastOpenCookieReqd TCPFastOpenBlackhole TCPSpuriousRtxHostQueues BusyPollRxPackets TCPAutoCorking TCPFromZeroWindowAdv
TCPToZeroWindowAdv TCPWantZeroWindowAdv TCPSynRetrans TCPOrigDataSent TCPHystartTrainDetect TCPHystartTrainCwnd
TCPHystartDelayDetect TCPHystartDelayCwnd TCPACKSkippedSynRecv TCPACKSkippedPAWS TCPACKSkippedSeq TCPACKSkippedFinWait2
TCPACKSkippedTimeWait TCPACKSkippedChallenge TCPWinProbe TCPKeepAlive TCPMTUPFail TCPMTUPSuccess TCPDelivered TCPDeliveredCE
TCPAckCompressed TCPZeroWindowDrop TCPRcvQDrop TCPWqueueTooBig TCPFastOpenPassiveAltKey TcpTimeoutRehash TcpDuplicateDataRehash
TCPDSACKRecvSegs TCPDSACKIgnoredDubious TCPMigrateReqSuccess TCPMigrateReqFailure TCPPLBRehash TCPAORequired TCPAOBad
TCPAOKeyNotFound TCPAOGood TCPAODroppedIcmps`
	snmpUDP  = `InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors InCsumErrors IgnoredMulti MemErrors`
	snmpIP   = `InReceives InHdrErrors InAddrErrors ForwDatagrams InUnknownProtos InDiscards InDelivers OutRequests OutDiscards OutNoRoutes ReasmTimeout ReasmReqds ReasmOKs ReasmFails FragOKs FragFails FragCreates OutTransmits`
	extIP    = `InNoRoutes InTruncatedPkts InMcastPkts OutMcastPkts InBcastPkts OutBcastPkts InOctets OutOctets InMcastOctets OutMcastOctets InBcastOctets OutBcastOctets InCsumErrors InNoECTPkts InECT1Pkts InECT0Pkts InCEPkts ReasmOverlaps`
	snmpICMP = `InMsgs InErrors InCsumErrors InDestUnreachs InTimeExcds InParmProbs InSrcQuenchs InRedirects InEchos InEchoReps InTimestamps InTimestampReps InAddrMasks InAddrMaskReps OutMsgs OutErrors OutRateLimitGlobal OutRateLimitHost OutDestUnreachs OutTimeExcds OutParmProbs OutSrcQuenchs OutRedirects OutEchos OutEchoReps OutTimestamps OutTimestampReps OutAddrMasks OutAddrMaskReps`
	six      = `InReceives InHdrErrors InTooBigErrors InNoRoutes InAddrErrors InUnknownProtos InTruncatedPkts InDiscards InDelivers OutForwDatagrams OutRequests OutDiscards OutNoRoutes ReasmTimeout ReasmReqds ReasmOKs ReasmFails FragOKs FragFails FragCreates InOctets OutOctets OutTransmits`
)

type netField struct {
	name  string
	gauge bool
}

type netstatCollector struct {
	*env
	sections map[string]map[string]netField // by section of snmp and netstat
	six      map[string]netField            // by key of snmp6
}

func newNetstat(e *env) collector {
	c := &netstatCollector{env: e, sections: make(map[string]map[string]netField), six: make(map[string]netField)}
	for _, s := range [...]struct{ section, prefix, fields string }{
		{"Tcp", "tcp.", snmpTCP}, {"TcpExt", "tcp.", extTCP}, {"Udp", "udp.", snmpUDP}, {"Ip", "ip.", snmpIP},
		{"IpExt", "ip.", extIP}, {"Icmp", "icmp.", snmpICMP},
	} {
		m := make(map[string]netField)
		for _, f := range strings.Fields(s.fields) {
			m[f] = netField{netName(s.prefix, f), f == "CurrEstab"}
		}
		c.sections[s.section] = m
	}
	for _, f := range strings.Fields(snmpUDP) {
		c.six["Udp6"+f] = netField{name: netName("udp6.", f)}
	}
	for _, f := range strings.Fields(six) {
		c.six["Ip6"+f] = netField{name: netName("ip6.", f)}
	}
	return c
}

// netName spells a counter: the leading TCP says again what the prefix says and is cut.
func netName(prefix, field string) string {
	if prefix == "tcp." && len(field) > 3 && strings.EqualFold(field[:3], "tcp") {
		field = field[3:]
	}
	return prefix + snake(field)
}

func (c *netstatCollector) Name() string { return "netstat" }

func (c *netstatCollector) Signals() []tune.Signal {
	var out []tune.Signal
	seen := make(map[string]bool)
	put := func(n netField, raw, source string) {
		if seen[n.name] {
			return // Ip and IpExt share InCsumErrors on old kernels
		}
		seen[n.name] = true
		unit := "events"
		if n.gauge {
			unit = "connections"
		}
		help := "the kernel's counter " + raw
		out = append(out, tune.Signal{Name: n.name, Entity: tune.EntityNetns, Unit: unit, Counter: !n.gauge, Help: help, Source: source})
	}
	for section, fields := range c.sections {
		source := "/proc/net/snmp"
		if strings.HasSuffix(section, "Ext") {
			source = "/proc/net/netstat"
		}
		for raw, n := range fields {
			put(n, section+" "+raw, source)
		}
	}
	for raw, n := range c.six {
		put(n, raw, "/proc/net/snmp6")
	}
	return append(out, table(tune.EntityNetns, "/proc/net/snmp", `
tcp.retrans_share | share | segments sent again, of all sent
tcp.listen_drop_share | share | connections lost at a full accept queue, of those that arrived
udp.rcvbuf_error_share | share | datagrams dropped at a full receive buffer, of those that arrived`)...)
}

func (c *netstatCollector) Collect(_ context.Context, f *frame) error {
	return c.eachNamespace(f, c.Name(), func(n nsview) error {
		part := n.entry(f)
		before := len(part.readings)
		for _, file := range [...]string{"snmp", "netstat", "snmp6"} {
			if err := c.file(part, n, file); err != nil {
				part.readings = part.readings[:before]
				return err
			}
		}
		return nil
	})
}

func (c *netstatCollector) file(e *entry, n nsview, name string) error {
	b, err := c.readNet(n, name)
	if name == "snmp6" {
		if errors.Is(err, tune.ErrNoData) {
			return nil // no IPv6 here
		}
		if err != nil {
			return err
		}
		return parseKeyValues(b, func(key []byte, v float64) {
			if field, ok := c.six[string(key)]; ok {
				e.counter(field.name, v)
			}
		})
	}
	if err != nil {
		return err
	}
	return parseNetstat(b, func(section, field []byte, v float64) {
		n, ok := c.sections[string(section)][string(field)]
		switch {
		case !ok:
		case n.gauge:
			e.gauge(n.name, v)
		default:
			e.counter(n.name, v)
		}
	})
}

// readNet reads a file of the namespace's /proc/net. Ours stays open; another's hangs on a pid that
// may be a different process by the next tick.
func (e *env) readNet(n nsview, name string) ([]byte, error) {
	if n.own {
		return e.files.read(n.file(name))
	}
	return e.files.once(n.file(name))
}

// parseNetstat reads pairs of lines: "Section: names..." and "Section: numbers...". procfs parses them
// too, but into maps of strings anew each time, which alone would take half of a tick's budget.
func parseNetstat(b []byte, visit func(section, field []byte, v float64)) error {
	pairs := 0
	for len(b) > 0 {
		var names, values []byte
		if names, b = line(b); len(bytes.TrimSpace(names)) == 0 {
			continue
		}
		values, b = line(b)
		section, names, ok := bytes.Cut(names, []byte{':'})
		again, values, ok2 := bytes.Cut(values, []byte{':'})
		if !ok || !ok2 || !bytes.Equal(section, again) {
			return corrupt("section", section)
		}
		for {
			var n, w []byte
			n, names = word(names)
			w, values = word(values)
			if len(n) == 0 && len(w) == 0 {
				break
			}
			v, ok := number(w)
			if len(n) == 0 || !ok {
				return corrupt("value of "+string(section)+" "+string(n), w)
			}
			visit(section, n, v)
		}
		pairs++
	}
	if pairs == 0 {
		return corrupt("empty file", b)
	}
	return nil
}

func (c *netstatCollector) Derive(v *view) {
	for _, s := range v.entities[tune.EntityNetns] {
		s.ratio("tcp.retrans_share", []string{"tcp.retrans_segs"}, []string{"tcp.out_segs"})
		s.ratio("tcp.listen_drop_share", []string{"tcp.listen_overflows"}, []string{"tcp.listen_overflows", "tcp.passive_opens"})
		s.ratio("udp.rcvbuf_error_share", []string{"udp.rcvbuf_errors"}, []string{"udp.rcvbuf_errors", "udp.in_datagrams"})
	}
}
