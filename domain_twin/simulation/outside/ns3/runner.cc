// Packet-level run of one network: scenario on stdin, table on stdout, progress on stderr.
//
// Links are ns-3's point-to-point devices with its drop-tail queue. Packets follow the routes of the scenario
// from device to device, without an IP stack: its traffic control layer would put a second queue (FqCoDel)
// before the one that is asked about, and it would fragment above 1500 octets. Cells (processor sharing) and
// stations (several servers), which ns-3 has not, are small models on its event scheduler and random streams.
//
// The words of a scenario, one record after the other (driver.py writes them):
//   fedtwin-ns3 1
//   window WARMUP_S DURATION_S BATCHES DRAIN_S
//   random SEED RUN
//   samples COUNT_PER_FLOW
//   nodes N
//   classes C, then C times: ARRIVALS ON_S OFF_S PRIORITY WEIGHT EXPONENTIAL K (OCTETS PROBABILITY) * K
//   edges E, then E times: KIND TAIL HEAD RATE_BPS FIXED_S BUFFER SERVERS SERVICE_S SCV LOSS SCHEDULER
//   tables T, then T times: DESTINATION ENTRIES, then ENTRIES times: NODE K EDGE * K
//   paths P, then P times: K EDGE * K
//   flows F, then F times: CLASS SOURCE DESTINATION PACKETS_PER_S STREAM ROUTE
// KIND: 0 link, 1 cell, 2 station, 3 fixed. SCHEDULER: 0 FIFO, 1 strict priority, 2 WFQ, 3 DRR. BUFFER: -1 none.
// ARRIVALS: 0 Poisson, 1 Poisson in on periods, 2 equally spaced in on periods, 3 equally spaced.
// ROUTE: a path by its number, or -1: the table of the destination.
//
// Exit status: 0 done, 2 the scenario is not understood (one line on stderr).

#include "ns3/core-module.h"
#include "ns3/network-module.h"
#include "ns3/point-to-point-module.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <iostream>
#include <limits>
#include <list>
#include <map>
#include <memory>
#include <queue>
#include <string>
#include <unordered_map>
#include <vector>

using namespace ns3;

namespace
{

constexpr uint32_t PPP_OCTETS = 2;    // what a point-to-point device puts before each packet
constexpr uint32_t TICKET_OCTETS = 4; // index of the packet's record, the only bytes it really carries
constexpr double NONE = std::numeric_limits<double>::quiet_NaN();

[[noreturn]] void
Refuse(const std::string& what)
{
    std::cerr << "scenario: " << what << std::endl;
    std::exit(2);
}

template <typename T>
T
Read(const char* what)
{
    T value;
    if (!(std::cin >> value))
    {
        Refuse(std::string("no ") + what);
    }
    return value;
}

double
ReadNumber(const char* what, double low, double high = std::numeric_limits<double>::max())
{
    const auto value = Read<double>(what);
    if (!(value >= low && value <= high))
    {
        Refuse(std::string(what) + " is " + std::to_string(value));
    }
    return value;
}

size_t
ReadIndex(const char* what, size_t limit)
{
    return static_cast<size_t>(ReadNumber(what, 0, static_cast<double>(limit) - 1));
}

void
Expect(const std::string& word)
{
    const auto got = Read<std::string>(word.c_str());
    if (got != word)
    {
        Refuse("expected " + word + ", got " + got);
    }
}

size_t
ReadCount(const std::string& word)
{
    Expect(word);
    return static_cast<size_t>(ReadNumber(word.c_str(), 0, 1e9));
}

struct Class
{
    int arrivals;
    double on, off;
    int priority;
    double weight;
    bool exponential;
    std::vector<double> octets, upTo; // upTo: cumulative probabilities
    double mean;
};

// A packet under way. Records are reused; the packet carries the index of its own.
struct Ticket
{
    uint32_t flow;
    uint32_t hop; // on an explicit path: the next edge to take
    uint32_t octets;
    bool measured;
    double sentAt, enteredAt;
};

struct Edge
{
    int kind, scheduler;
    uint32_t tail, head;
    double rate, fixed, service, scv, loss;
    int64_t buffer;
    uint32_t servers;
    Ptr<PointToPointNetDevice> out;
    Time freeAt;                        // a link without a buffer: when its server is free
    Ptr<UniformRandomVariable> uniform; // made when first needed
    Ptr<RandomVariableStream> serviceTime;
    // Cell: packets present by the attained service at which they are done, in bits.
    std::priority_queue<std::pair<double, uint32_t>, std::vector<std::pair<double, uint32_t>>, std::greater<>>
        sharing;
    double attained = 0, attainedAt = 0;
    EventId nextDone;
    // Station: packets that wait, servers that are busy.
    std::deque<uint32_t> waiting;
    uint32_t busy = 0;
    // In the measured window.
    uint64_t offered = 0, dropped = 0, lost = 0, carried = 0;
    double busyTime = 0, delaySum = 0, delaySquares = 0;
};

struct Batch
{
    uint64_t sent = 0, received = 0;
    double sum = 0, squares = 0, jitter = 0;
    uint64_t jumps = 0;
};

struct Flow
{
    uint32_t cls, source, destination;
    double rate;
    int64_t route;
    Ptr<UniformRandomVariable> uniform;
    double onLeft = 0;
    uint64_t sent = 0, received = 0, every = 1;
    double reference = NONE, last = NONE, least = NONE, most = NONE;
    std::vector<Batch> batches;
    std::vector<float> samples; // seconds, in the order of reception
};

double warmup, duration, drain;
size_t batchCount;
uint64_t samplesPerFlow;
size_t nodeCount;
std::vector<Class> classes;
std::vector<Edge> edges;
std::vector<Flow> flows;
std::vector<std::vector<uint32_t>> paths;
std::unordered_map<uint64_t, std::vector<uint32_t>> nextEdges; // destination * nodes + node
std::vector<Ticket> tickets;
std::vector<uint32_t> freeTickets;
uint64_t measuredUnderway = 0, packetHops = 0;

double
Now()
{
    return Simulator::Now().GetSeconds();
}

bool
InWindow(double at)
{
    return at >= warmup && at < warmup + duration;
}

uint32_t
TicketOf(const Ptr<const Packet>& packet)
{
    uint32_t ticket;
    packet->CopyData(reinterpret_cast<uint8_t*>(&ticket), TICKET_OCTETS);
    return ticket;
}

// A queue that several classes share, all of its places open to each (drop tail), served by strict priority,
// by self-clocked fair queueing (Golestani 1994, for WFQ) or by deficit round robin (RFC 7141's kind of
// fairness in octets; Shreedhar and Varghese 1996).
class ClassQueue : public Queue<Packet>
{
  public:
    static TypeId GetTypeId()
    {
        static TypeId tid = TypeId("fedtwin::ClassQueue").SetParent<Queue<Packet>>().AddConstructor<ClassQueue>();
        return tid;
    }

    void SetDiscipline(int discipline)
    {
        m_discipline = discipline;
    }

    bool Enqueue(Ptr<Packet> item) override
    {
        // The packet carries a PPP header by now: the ticket stands behind it.
        Ptr<Packet> bare = item->CreateFragment(PPP_OCTETS, TICKET_OCTETS);
        const Ticket& ticket = tickets[TicketOf(bare)];
        const uint32_t cls = flows[ticket.flow].cls;
        Iterator place;
        if (!DoEnqueue(GetContainer().end(), item, place))
        {
            return false;
        }
        Line& line = m_lines[cls];
        line.finish = std::max(line.finish, m_virtual) + ticket.octets / classes[cls].weight;
        line.waiting.push_back({place, ticket.octets, line.finish});
        if (m_discipline == 3 && line.waiting.size() == 1)
        {
            m_round.push_back(cls);
            line.deficit = 0;
            line.visited = false;
        }
        return true;
    }

    Ptr<Packet> Dequeue() override
    {
        if (GetContainer().empty())
        {
            return nullptr;
        }
        const uint32_t cls = m_discipline == 1 ? ByPriority() : m_discipline == 2 ? ByFinish() : ByRound();
        Line& line = m_lines[cls];
        const Entry entry = line.waiting.front();
        line.waiting.pop_front();
        m_virtual = m_discipline == 2 ? entry.finish : m_virtual;
        if (m_discipline == 3)
        {
            line.deficit -= entry.octets;
            if (line.waiting.empty())
            {
                m_round.pop_front();
            }
        }
        return DoDequeue(entry.place);
    }

    Ptr<Packet> Remove() override
    {
        return nullptr; // nothing here pushes packets out
    }

    Ptr<const Packet> Peek() const override
    {
        return nullptr;
    }

  private:
    struct Entry
    {
        Iterator place;
        uint32_t octets;
        double finish;
    };

    struct Line
    {
        std::deque<Entry> waiting;
        double finish = 0, deficit = 0;
        bool visited = false;
    };

    uint32_t ByPriority() const
    {
        // Classes of equal priority are one line: of their first packets the one that came first.
        uint32_t best = 0;
        bool found = false;
        for (const auto& [cls, line] : m_lines)
        {
            if (line.waiting.empty())
            {
                continue;
            }
            if (!found || classes[cls].priority < classes[best].priority)
            {
                best = cls;
                found = true;
            }
        }
        const int priority = classes[best].priority;
        size_t equals = 0;
        for (const auto& [cls, line] : m_lines)
        {
            equals += !line.waiting.empty() && classes[cls].priority == priority;
        }
        if (equals == 1)
        {
            return best;
        }
        for (auto place = GetContainer().begin(); place != GetContainer().end(); ++place)
        {
            for (const auto& [cls, line] : m_lines)
            {
                if (classes[cls].priority == priority && !line.waiting.empty() &&
                    ConstIterator(line.waiting.front().place) == place)
                {
                    return cls;
                }
            }
        }
        return best;
    }

    uint32_t ByFinish() const
    {
        uint32_t best = 0;
        double least = std::numeric_limits<double>::max();
        for (const auto& [cls, line] : m_lines)
        {
            if (!line.waiting.empty() && line.waiting.front().finish < least)
            {
                least = line.waiting.front().finish;
                best = cls;
            }
        }
        return best;
    }

    uint32_t ByRound()
    {
        for (;;)
        {
            const uint32_t cls = m_round.front();
            Line& line = m_lines[cls];
            if (!line.visited)
            {
                line.deficit += 1500 * classes[cls].weight; // a quantum of one full packet: O(1) a turn
                line.visited = true;
            }
            if (line.waiting.front().octets <= line.deficit)
            {
                return cls;
            }
            line.visited = false;
            m_round.pop_front();
            m_round.push_back(cls);
        }
    }

    int m_discipline = 1;
    double m_virtual = 0;
    std::map<uint32_t, Line> m_lines;
    std::deque<uint32_t> m_round;
};

NS_OBJECT_ENSURE_REGISTERED(ClassQueue);

void Forward(uint32_t node, uint32_t ticket);

void
StopWhenComplete()
{
    if (measuredUnderway == 0 && Now() >= warmup + duration)
    {
        Simulator::Stop();
    }
}

void
Discard(uint32_t index)
{
    if (tickets[index].measured)
    {
        --measuredUnderway;
        StopWhenComplete();
    }
    freeTickets.push_back(index);
}

void
Deliver(uint32_t index)
{
    const Ticket& ticket = tickets[index];
    if (ticket.measured)
    {
        Flow& flow = flows[ticket.flow];
        const double delay = Now() - ticket.sentAt;
        if (std::isnan(flow.reference))
        {
            flow.reference = delay; // sums are of differences to it: no digits are lost in the squares
            flow.least = flow.most = delay;
        }
        const auto place = static_cast<size_t>((ticket.sentAt - warmup) / duration * batchCount);
        Batch& batch = flow.batches[std::min(place, batchCount - 1)];
        const double off = delay - flow.reference;
        ++batch.received;
        batch.sum += off;
        batch.squares += off * off;
        if (!std::isnan(flow.last))
        {
            batch.jitter += std::fabs(delay - flow.last);
            ++batch.jumps;
        }
        flow.last = delay;
        flow.least = std::min(flow.least, delay);
        flow.most = std::max(flow.most, delay);
        if (flow.received++ % flow.every == 0)
        {
            flow.samples.push_back(static_cast<float>(delay));
        }
    }
    Discard(index);
}

// A packet leaves an edge at its head.
void
Leave(uint32_t at, uint32_t index)
{
    Edge& edge = edges[at];
    const Ticket& ticket = tickets[index];
    ++packetHops;
    if (InWindow(ticket.enteredAt))
    {
        const double delay = Now() - ticket.enteredAt;
        ++edge.carried;
        edge.delaySum += delay;
        edge.delaySquares += delay * delay;
    }
    if (edge.loss > 0 && edge.uniform->GetValue() < edge.loss)
    {
        edge.lost += InWindow(ticket.enteredAt);
        Discard(index);
        return;
    }
    Forward(edge.head, index);
}

bool
Received(uint32_t at, Ptr<NetDevice>, Ptr<const Packet> packet, uint16_t, const Address&)
{
    Leave(at, TicketOf(packet));
    return true;
}

void
Drop(Edge& edge, uint32_t index)
{
    edge.dropped += InWindow(Now());
    Discard(index);
}

void
EnterLink(uint32_t at, uint32_t index)
{
    Edge& edge = edges[at];
    const Ticket& ticket = tickets[index];
    const double seconds = ticket.octets * 8.0 / edge.rate;
    if (edge.buffer == 0)
    {
        if (Simulator::Now() < edge.freeAt)
        {
            Drop(edge, index);
            return;
        }
        edge.freeAt = Simulator::Now() + DataRate(static_cast<uint64_t>(edge.rate)).CalculateBytesTxTime(ticket.octets);
    }
    Ptr<Packet> packet = Create<Packet>(reinterpret_cast<const uint8_t*>(&index), TICKET_OCTETS);
    packet->AddPaddingAtEnd(ticket.octets - PPP_OCTETS - TICKET_OCTETS);
    if (!edge.out->Send(packet, edge.out->GetBroadcast(), 0x0800))
    {
        Drop(edge, index);
        return;
    }
    edge.busyTime += InWindow(Now()) ? seconds : 0;
}

void ServeCell(uint32_t at);

void
AdvanceCell(Edge& edge)
{
    const double now = Now();
    if (!edge.sharing.empty())
    {
        edge.attained += (now - edge.attainedAt) * edge.rate / edge.sharing.size();
    }
    edge.attainedAt = now;
}

void
ScheduleCell(uint32_t at)
{
    Edge& edge = edges[at];
    edge.nextDone.Cancel();
    if (!edge.sharing.empty())
    {
        const double left = (edge.sharing.top().first - edge.attained) * edge.sharing.size() / edge.rate;
        edge.nextDone = Simulator::Schedule(Seconds(std::max(0.0, left)), &ServeCell, at);
    }
}

void
ServeCell(uint32_t at)
{
    Edge& edge = edges[at];
    AdvanceCell(edge);
    const uint32_t index = edge.sharing.top().second;
    edge.attained = edge.sharing.top().first;
    edge.sharing.pop();
    Simulator::Schedule(Seconds(edge.fixed), &Leave, at, index);
    ScheduleCell(at);
}

void
EnterCell(uint32_t at, uint32_t index)
{
    Edge& edge = edges[at];
    if (edge.buffer >= 0 && edge.sharing.size() > static_cast<size_t>(edge.buffer))
    {
        Drop(edge, index);
        return;
    }
    AdvanceCell(edge);
    const double bits = tickets[index].octets * 8.0;
    edge.sharing.push({edge.attained + bits, index});
    edge.busyTime += InWindow(Now()) ? bits / edge.rate : 0;
    ScheduleCell(at);
}

void ServeStation(uint32_t at, uint32_t index);

void
BeginService(uint32_t at, uint32_t index)
{
    Edge& edge = edges[at];
    const double seconds = edge.serviceTime->GetValue();
    edge.busyTime += InWindow(Now()) ? seconds / edge.servers : 0;
    Simulator::Schedule(Seconds(seconds), &ServeStation, at, index);
}

void
ServeStation(uint32_t at, uint32_t index)
{
    Edge& edge = edges[at];
    Simulator::Schedule(Seconds(edge.fixed), &Leave, at, index);
    if (edge.waiting.empty())
    {
        --edge.busy;
        return;
    }
    const uint32_t next = edge.waiting.front();
    edge.waiting.pop_front();
    BeginService(at, next);
}

void
EnterStation(uint32_t at, uint32_t index)
{
    Edge& edge = edges[at];
    if (edge.busy < edge.servers)
    {
        ++edge.busy;
        BeginService(at, index);
    }
    else if (edge.buffer >= 0 && edge.waiting.size() >= static_cast<size_t>(edge.buffer))
    {
        Drop(edge, index);
    }
    else
    {
        edge.waiting.push_back(index);
    }
}

void
Forward(uint32_t node, uint32_t index)
{
    Ticket& ticket = tickets[index];
    Flow& flow = flows[ticket.flow];
    uint32_t at;
    if (flow.route >= 0)
    {
        const auto& path = paths[flow.route];
        if (ticket.hop == path.size())
        {
            Deliver(index);
            return;
        }
        at = path[ticket.hop++];
    }
    else
    {
        if (node == flow.destination)
        {
            Deliver(index);
            return;
        }
        const auto& choice = nextEdges[flow.destination * nodeCount + node];
        if (choice.empty())
        {
            Refuse("no route at node " + std::to_string(node) + " to " + std::to_string(flow.destination));
        }
        // Each packet by itself: what the analysis takes equal-cost paths to do.
        at = choice.size() == 1 ? choice[0] : choice[flow.uniform->GetInteger(0, choice.size() - 1)];
    }
    Edge& edge = edges[at];
    if (edge.tail != node)
    {
        Refuse("route of flow " + std::to_string(ticket.flow) + " takes edge " + std::to_string(at) + " at node " +
               std::to_string(node));
    }
    ticket.enteredAt = Now();
    edge.offered += InWindow(ticket.enteredAt);
    switch (edge.kind)
    {
    case 0:
        EnterLink(at, index);
        break;
    case 1:
        EnterCell(at, index);
        break;
    case 2:
        EnterStation(at, index);
        break;
    default:
        Simulator::Schedule(Seconds(edge.fixed), &Leave, at, index);
    }
}

double
Exponential(Flow& flow, double mean)
{
    return -mean * std::log1p(-flow.uniform->GetValue());
}

uint32_t
DrawOctets(Flow& flow)
{
    const Class& cls = classes[flow.cls];
    double octets;
    if (cls.exponential)
    {
        // Rounded up or down by chance: the mean stays what it is.
        octets = std::floor(Exponential(flow, cls.mean) + flow.uniform->GetValue());
    }
    else if (cls.octets.size() == 1)
    {
        octets = cls.octets[0];
    }
    else
    {
        const double draw = flow.uniform->GetValue();
        size_t i = 0;
        while (i + 1 < cls.upTo.size() && draw >= cls.upTo[i])
        {
            ++i;
        }
        octets = cls.octets[i];
    }
    return std::max<uint32_t>(PPP_OCTETS + TICKET_OCTETS, static_cast<uint32_t>(octets));
}

// The time until the next packet. In classes with on and off periods packets are drawn on a clock that stands
// still in off periods: so the mean rate is kept exactly.
double
Gap(Flow& flow)
{
    const Class& cls = classes[flow.cls];
    if (cls.arrivals == 0)
    {
        return Exponential(flow, 1 / flow.rate);
    }
    if (cls.arrivals == 3)
    {
        return 1 / flow.rate;
    }
    const double peak = flow.rate * (cls.on + cls.off) / cls.on;
    double left = cls.arrivals == 1 ? Exponential(flow, 1 / peak) : 1 / peak;
    double gap = 0;
    while (left > flow.onLeft)
    {
        gap += flow.onLeft + Exponential(flow, cls.off);
        left -= flow.onLeft;
        flow.onLeft = Exponential(flow, cls.on);
    }
    flow.onLeft -= left;
    return gap + left;
}

double
FirstGap(Flow& flow)
{
    const Class& cls = classes[flow.cls];
    if (cls.arrivals == 0)
    {
        return Gap(flow);
    }
    if (cls.arrivals == 3)
    {
        return flow.uniform->GetValue() / flow.rate;
    }
    // As if it had run for ever: on with probability on / (on + off), somewhere between two packets.
    double gap = 0;
    if (flow.uniform->GetValue() * (cls.on + cls.off) >= cls.on)
    {
        gap = Exponential(flow, cls.off);
    }
    flow.onLeft = Exponential(flow, cls.on);
    if (cls.arrivals == 1)
    {
        return gap + Gap(flow);
    }
    const double spacing = cls.on / (flow.rate * (cls.on + cls.off));
    double left = flow.uniform->GetValue() * spacing;
    while (left > flow.onLeft)
    {
        gap += flow.onLeft + Exponential(flow, cls.off);
        left -= flow.onLeft;
        flow.onLeft = Exponential(flow, cls.on);
    }
    flow.onLeft -= left;
    return gap + left;
}

void
SendNext(uint32_t at)
{
    Flow& flow = flows[at];
    const double now = Now();
    uint32_t index;
    if (freeTickets.empty())
    {
        index = static_cast<uint32_t>(tickets.size());
        tickets.emplace_back();
    }
    else
    {
        index = freeTickets.back();
        freeTickets.pop_back();
    }
    const bool measured = InWindow(now);
    tickets[index] = Ticket{at, 0, DrawOctets(flow), measured, now, now};
    if (measured)
    {
        ++measuredUnderway;
        ++flow.sent;
        const auto place = static_cast<size_t>((now - warmup) / duration * batchCount);
        ++flow.batches[std::min(place, batchCount - 1)].sent;
    }
    // Traffic goes on until the last measured packet is through: they must not meet an emptying network.
    Simulator::Schedule(Seconds(Gap(flow)), &SendNext, at);
    Forward(flow.source, index);
}

void
Tell(int hundredths)
{
    std::fprintf(stderr, "progress %d\n", hundredths);
    std::fflush(stderr);
    StopWhenComplete();
}

void
ReadClasses()
{
    classes.resize(ReadCount("classes"));
    for (auto& cls : classes)
    {
        cls.arrivals = static_cast<int>(ReadNumber("arrivals", 0, 3));
        cls.on = ReadNumber("on period", 0);
        cls.off = ReadNumber("off period", 0);
        cls.priority = static_cast<int>(ReadNumber("priority", -1e6, 1e6));
        cls.weight = ReadNumber("weight", 1e-9);
        cls.exponential = ReadNumber("exponential", 0, 1) > 0;
        const auto sizes = static_cast<size_t>(ReadNumber("number of sizes", 1, 1e6));
        double sum = 0;
        cls.mean = 0;
        for (size_t i = 0; i < sizes; ++i)
        {
            cls.octets.push_back(ReadNumber("octets", 1, 1e9));
            const double probability = ReadNumber("probability", 0, 1.000001);
            sum += probability;
            cls.mean += cls.octets.back() * probability;
            cls.upTo.push_back(sum);
        }
    }
}

void
MakeLink(uint32_t at, const NodeContainer& nodes)
{
    Edge& edge = edges[at];
    PointToPointHelper helper;
    helper.SetDeviceAttribute("DataRate", DataRateValue(DataRate(static_cast<uint64_t>(std::llround(edge.rate)))));
    helper.SetDeviceAttribute("Mtu", UintegerValue(65535));
    helper.SetChannelAttribute("Delay", TimeValue(Seconds(edge.fixed)));
    helper.DisableFlowControl();
    // A packet passes the queue on its way into an idle device, so that the queue needs one place at least.
    const auto places = edge.buffer < 0 ? std::numeric_limits<uint32_t>::max()
                                        : static_cast<uint32_t>(std::max<int64_t>(1, edge.buffer));
    const QueueSize size(QueueSizeUnit::PACKETS, places);
    helper.SetQueue("ns3::DropTailQueue<Packet>", "MaxSize", QueueSizeValue(size));
    const NetDeviceContainer devices = helper.Install(nodes.Get(edge.tail), nodes.Get(edge.head));
    edge.out = DynamicCast<PointToPointNetDevice>(devices.Get(0));
    if (edge.scheduler != 0)
    {
        Ptr<ClassQueue> queue = CreateObject<ClassQueue>();
        queue->SetDiscipline(edge.scheduler);
        queue->SetMaxSize(size);
        edge.out->SetQueue(queue);
    }
    const auto received = [at](Ptr<NetDevice> device, Ptr<const Packet> packet, uint16_t protocol, const Address& from) {
        return Received(at, device, packet, protocol, from);
    };
    devices.Get(1)->SetReceiveCallback(NetDevice::ReceiveCallback(received));
}

void
MakeStation(Edge& edge, int64_t stream)
{
    if (edge.scv <= 0)
    {
        Ptr<ConstantRandomVariable> constant = CreateObject<ConstantRandomVariable>();
        constant->SetAttribute("Constant", DoubleValue(edge.service));
        edge.serviceTime = constant;
        return;
    }
    Ptr<GammaRandomVariable> gamma = CreateObject<GammaRandomVariable>();
    gamma->SetAttribute("Alpha", DoubleValue(1 / edge.scv));
    gamma->SetAttribute("Beta", DoubleValue(edge.service * edge.scv));
    gamma->SetStream(stream);
    edge.serviceTime = gamma;
}

void
ReadEdges()
{
    NodeContainer nodes;
    nodes.Create(nodeCount);
    edges.resize(ReadCount("edges"));
    for (uint32_t at = 0; at < edges.size(); ++at)
    {
        Edge& edge = edges[at];
        edge.kind = static_cast<int>(ReadNumber("kind of edge", 0, 3));
        edge.tail = ReadIndex("tail", nodeCount);
        edge.head = ReadIndex("head", nodeCount);
        edge.rate = ReadNumber("rate", edge.kind <= 1 ? 1 : 0);
        edge.fixed = ReadNumber("fixed delay", 0, 1e6);
        edge.buffer = static_cast<int64_t>(ReadNumber("buffer", -1, 4e9));
        edge.servers = static_cast<uint32_t>(ReadNumber("servers", edge.kind == 2 ? 1 : 0, 1e9));
        edge.service = ReadNumber("service time", 0, 1e6);
        edge.scv = ReadNumber("service variation", 0, 1e6);
        edge.loss = ReadNumber("loss", 0, 1);
        edge.scheduler = static_cast<int>(ReadNumber("scheduler", 0, 3));
        // Streams of edges lie above those of flows, which the driver numbers below 2^40.
        const int64_t stream = (int64_t{1} << 40) + 2 * int64_t{at};
        if (edge.loss > 0)
        {
            edge.uniform = CreateObject<UniformRandomVariable>();
            edge.uniform->SetStream(stream);
        }
        if (edge.kind == 0)
        {
            MakeLink(at, nodes);
        }
        else if (edge.kind == 2)
        {
            MakeStation(edge, stream + 1);
        }
    }
}

void
ReadRoutes()
{
    const size_t tables = ReadCount("tables");
    for (size_t t = 0; t < tables; ++t)
    {
        const size_t destination = ReadIndex("destination", nodeCount);
        const auto entries = static_cast<size_t>(ReadNumber("entries", 0, static_cast<double>(nodeCount)));
        for (size_t i = 0; i < entries; ++i)
        {
            auto& choice = nextEdges[destination * nodeCount + ReadIndex("node", nodeCount)];
            const auto count = static_cast<size_t>(ReadNumber("next edges", 1, 1e6));
            for (size_t k = 0; k < count; ++k)
            {
                choice.push_back(ReadIndex("edge", edges.size()));
            }
        }
    }
    paths.resize(ReadCount("paths"));
    for (auto& path : paths)
    {
        path.resize(static_cast<size_t>(ReadNumber("path length", 1, 1e6)));
        for (auto& at : path)
        {
            at = ReadIndex("edge", edges.size());
        }
    }
}

void
ReadFlows()
{
    flows.resize(ReadCount("flows"));
    for (uint32_t at = 0; at < flows.size(); ++at)
    {
        Flow& flow = flows[at];
        flow.cls = ReadIndex("class", classes.size());
        flow.source = ReadIndex("source", nodeCount);
        flow.destination = ReadIndex("destination", nodeCount);
        flow.rate = ReadNumber("rate of flow", 1e-12);
        const auto stream = static_cast<int64_t>(ReadNumber("stream", 0, 1e12));
        flow.route = static_cast<int64_t>(ReadNumber("route", -1, static_cast<double>(paths.size()) - 1));
        flow.uniform = CreateObject<UniformRandomVariable>();
        flow.uniform->SetStream(stream);
        flow.batches.resize(batchCount);
        flow.every = std::max<uint64_t>(1, static_cast<uint64_t>(flow.rate * duration / samplesPerFlow + 0.5));
        Simulator::Schedule(Seconds(FirstGap(flow)), &SendNext, at);
    }
}

// Ratio estimator over batches: mean of value per count, and its standard error (Law 2015, 9.5.3 with unequal
// batches): sqrt(B / (B - 1) * sum (value_b - mean * count_b)^2) / total count.
struct Estimate
{
    double mean = NONE, error = NONE;
};

template <typename Value, typename Count>
Estimate
Ratio(const std::vector<Batch>& batches, Value value, Count count)
{
    double values = 0, counts = 0, squares = 0;
    for (const auto& batch : batches)
    {
        values += value(batch);
        counts += count(batch);
    }
    if (counts == 0)
    {
        return {};
    }
    const double mean = values / counts;
    for (const auto& batch : batches)
    {
        const double rest = value(batch) - mean * count(batch);
        squares += rest * rest;
    }
    const double used = batches.size();
    return {mean, used < 2 ? NONE : std::sqrt(squares * used / (used - 1)) / counts};
}

// The q-quantile of samples in order of reception, and its standard error: that of the share below it, over
// batches, by the density there (differences of quantiles a little to both sides).
Estimate
Quantile(const std::vector<float>& samples, std::vector<float>& sorted, double q)
{
    if (sorted.empty())
    {
        return {};
    }
    const auto at = [&sorted](double share) {
        const double place = std::clamp(share, 0.0, 1.0) * (sorted.size() - 1);
        const auto low = static_cast<size_t>(place);
        const auto high = std::min(low + 1, sorted.size() - 1);
        return sorted[low] + (place - low) * (sorted[high] - sorted[low]);
    };
    const double value = at(q);
    const size_t used = std::min<size_t>(batchCount, samples.size() / 10);
    if (used < 5)
    {
        return {value, NONE};
    }
    double squares = 0;
    for (size_t b = 0; b < used; ++b)
    {
        const size_t begin = samples.size() * b / used, end = samples.size() * (b + 1) / used;
        const auto below = std::count_if(samples.begin() + begin, samples.begin() + end,
                                         [value](float delay) { return delay <= value; });
        const double rest = static_cast<double>(below) / (end - begin) - q;
        squares += rest * rest;
    }
    const double shareError = std::sqrt(squares / (used - 1) / used);
    const double step = std::min({std::max(shareError, 1.0 / samples.size()), q, 1 - q});
    const double slope = (at(q + step) - at(q - step)) / (2 * step);
    return {value, shareError * slope};
}

void
WriteEstimate(const Estimate& estimate)
{
    std::printf(" %.12g %.6g", estimate.mean, estimate.error);
}

void
WriteTable()
{
    std::printf("fedtwin-ns3-table 1\n");
    std::printf("run %.9g %llu %llu %llu\n", Now(), (unsigned long long)Simulator::GetEventCount(),
                (unsigned long long)packetHops, (unsigned long long)measuredUnderway);
    for (size_t at = 0; at < flows.size(); ++at)
    {
        Flow& flow = flows[at];
        const auto one = [](const Batch& b) { return static_cast<double>(b.received); };
        Estimate mean = Ratio(flow.batches, [](const Batch& b) { return b.sum; }, one);
        const double shift = mean.mean;
        const Estimate variance = Ratio(
            flow.batches,
            [shift](const Batch& b) { return b.squares - 2 * shift * b.sum + shift * shift * b.received; },
            one);
        mean.mean += flow.reference;
        const Estimate loss = Ratio(
            flow.batches,
            [](const Batch& b) { return static_cast<double>(b.sent - b.received); },
            [](const Batch& b) { return static_cast<double>(b.sent); });
        const Estimate jitter = Ratio(
            flow.batches,
            [](const Batch& b) { return b.jitter; },
            [](const Batch& b) { return static_cast<double>(b.jumps); });
        std::printf("flow %zu %llu %llu", at, (unsigned long long)flow.sent, (unsigned long long)flow.received);
        WriteEstimate(mean);
        WriteEstimate(variance);
        WriteEstimate(loss);
        WriteEstimate(jitter);
        std::printf(" %.12g %.12g", flow.least, flow.most);
        std::vector<float> sorted(flow.samples);
        std::sort(sorted.begin(), sorted.end());
        for (const double q : {0.5, 0.9, 0.95, 0.99})
        {
            WriteEstimate(Quantile(flow.samples, sorted, q));
        }
        std::printf("\n");
    }
    for (size_t at = 0; at < edges.size(); ++at)
    {
        const Edge& edge = edges[at];
        const double mean = edge.carried ? edge.delaySum / edge.carried : NONE;
        const double variance = edge.carried ? edge.delaySquares / edge.carried - mean * mean : NONE;
        std::printf("edge %zu %llu %llu %llu %.9g %.12g %.12g\n", at, (unsigned long long)edge.offered,
                    (unsigned long long)edge.dropped, (unsigned long long)edge.lost, edge.busyTime / duration, mean,
                    variance);
    }
    std::printf("end\n");
}

} // namespace

int
main()
{
    std::ios::sync_with_stdio(false);
    Time::SetResolution(Time::PS); // 64 octets at 400 Gbit/s take 1.28 ns
    Expect("fedtwin-ns3");
    Expect("1");
    Expect("window");
    warmup = ReadNumber("warm-up", 0, 1e6);
    duration = ReadNumber("duration", 1e-9, 1e6);
    batchCount = static_cast<size_t>(ReadNumber("batches", 1, 10000));
    drain = ReadNumber("drain", 0, 1e6);
    Expect("random");
    RngSeedManager::SetSeed(static_cast<uint32_t>(ReadNumber("seed", 1, 4294944442.0)));
    RngSeedManager::SetRun(static_cast<uint64_t>(ReadNumber("run", 0, 1e15)));
    samplesPerFlow = static_cast<uint64_t>(ReadCount("samples"));
    samplesPerFlow = std::max<uint64_t>(1, samplesPerFlow);
    nodeCount = ReadCount("nodes");
    ReadClasses();
    ReadEdges();
    ReadRoutes();
    ReadFlows();
    Expect("end");
    for (int hundredths = 1; hundredths <= 100; ++hundredths)
    {
        Simulator::Schedule(Seconds((warmup + duration) * hundredths / 100), &Tell, hundredths);
    }
    Simulator::Stop(Seconds(warmup + duration + drain));
    Simulator::Run();
    WriteTable();
    Simulator::Destroy();
    return 0;
}
