// Packs beats of a varying number of units into beats of OUT_UNITS units, in rows of ROW_UNITS.
//
// A unit is UNIT_W bits. An input beat brings in_count_i units, 1 to IN_UNITS, unit 0 in the low
// bits; the bits above them must be zero. A row starts a new output beat, and the last output
// beat of a row is padded with zeros. Latency 1 cycle after the last unit that an output beat
// needs; a beat in and a beat out a cycle where the counts allow it. in_ready_o, out_valid_o and
// out_data_o are functions of registers alone.
module quire_gearbox #(
  parameter int unsigned UNIT_W    = 8,
  parameter int unsigned IN_UNITS  = 1,
  parameter int unsigned OUT_UNITS = 1,
  parameter int unsigned ROW_UNITS = 1
) (
  input  logic                          clk_i,
  input  logic                          rst_ni,
  input  logic                          in_valid_i,
  output logic                          in_ready_o,
  input  logic [$clog2(IN_UNITS+1)-1:0] in_count_i,
  input  logic [   IN_UNITS*UNIT_W-1:0] in_data_i,
  output logic                          out_valid_o,
  input  logic                          out_ready_i,
  output logic [  OUT_UNITS*UNIT_W-1:0] out_data_o
);

  localparam int unsigned BEATS = (ROW_UNITS + OUT_UNITS - 1) / OUT_UNITS;
  localparam int unsigned TAIL = ROW_UNITS - (BEATS - 1) * OUT_UNITS;
  localparam int unsigned BEAT_W = (BEATS > 1) ? $clog2(BEATS) : 1;
  // The least room with which beats of a constant count never wait for each other's handshake in
  // the same cycle (found by trying all ratios up to 9 to 9); a place in it costs a multiplexer.
  localparam int unsigned SMALLER = (IN_UNITS < OUT_UNITS) ? IN_UNITS : OUT_UNITS;
  localparam int unsigned UNEVEN = (IN_UNITS % OUT_UNITS != 0 && OUT_UNITS % IN_UNITS != 0) ? 1 : 0;
  localparam int unsigned CAPACITY = IN_UNITS + OUT_UNITS + SMALLER - 1 + UNEVEN;
  localparam int unsigned FILL_W = $clog2(CAPACITY + 1);
  localparam int unsigned OUT_W = OUT_UNITS * UNIT_W;
  localparam logic [OUT_W-1:0] TAIL_MASK = {OUT_W{1'b1}} >> ((OUT_UNITS - TAIL) * UNIT_W);

  if (UNIT_W < 1 || IN_UNITS < 1 || OUT_UNITS < 1 || ROW_UNITS < 1) begin : g_check_size
    $error("quire_gearbox: UNIT_W, IN_UNITS, OUT_UNITS and ROW_UNITS must be 1 or more");
  end

  logic [CAPACITY*UNIT_W-1:0] data_q, kept, data_d;
  logic [FILL_W-1:0] fill_q, base, need;
  logic [BEAT_W-1:0] beat_q;
  logic last, push, pop;

  assign last        = beat_q == BEAT_W'(BEATS - 1);
  assign need        = last ? FILL_W'(TAIL) : FILL_W'(OUT_UNITS);
  assign in_ready_o  = fill_q <= FILL_W'(CAPACITY - IN_UNITS);
  assign out_valid_o = fill_q >= need;
  assign out_data_o  = last ? data_q[OUT_W-1:0] & TAIL_MASK : data_q[OUT_W-1:0];
  assign push        = in_valid_i & in_ready_o;
  assign pop         = out_valid_o & out_ready_i;
  assign base        = pop ? fill_q - need : fill_q;

  // Units at and above fill_q are zero, so that a short beat pads itself.
  always_comb begin
    kept = data_q;
    if (pop) kept = last ? data_q >> (TAIL * UNIT_W) : data_q >> OUT_W;
    data_d = kept;
    for (int unsigned i = 0; i <= CAPACITY - IN_UNITS; i++) begin
      if (push && base == FILL_W'(i)) data_d[i*UNIT_W+:IN_UNITS*UNIT_W] = in_data_i;
    end
  end

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      fill_q <= '0;
      beat_q <= '0;
      data_q <= '0;
    end else begin
      fill_q <= push ? base + FILL_W'(in_count_i) : base;
      if (pop) beat_q <= last ? '0 : beat_q + BEAT_W'(1);
      data_q <= data_d;
    end
  end

`ifndef SYNTHESIS
  // Watches one unit: how many leave before it, and what it was. A proof chooses any unit; a
  // simulation the last of a beat, one after the other.
`ifdef FORMAL
  (* anyseq *) logic choose;
  (* anyseq *) logic [FILL_W-1:0] chosen;
`else
  logic choose;
  logic [FILL_W-1:0] chosen;
  assign choose = 1'b1;
  assign chosen = FILL_W'(in_count_i) - FILL_W'(1);
`endif
  logic [FILL_W:0] count_q, ahead_q;
  logic [UNIT_W-1:0] watched_q;
  logic [OUT_W-1:0] held_q;
  logic watching_q, stalled_q;

  always_ff @(posedge clk_i) begin
    count_q <= count_q + (push ? (FILL_W + 1)'(in_count_i) : '0) - (pop ? (FILL_W + 1)'(need) : '0);
    if (!rst_ni) count_q <= '0;
    stalled_q <= rst_ni & out_valid_o & ~out_ready_i;
    held_q    <= out_data_o;
    if (!rst_ni) begin
      watching_q <= 1'b0;
    end else if (!watching_q) begin
      watching_q <= push && choose && chosen < FILL_W'(in_count_i);
      ahead_q    <= count_q - (pop ? (FILL_W + 1)'(need) : '0) + (FILL_W + 1)'(chosen);
      watched_q  <= UNIT_W'(in_data_i >> (chosen * UNIT_W));
    end else if (pop) begin
      watching_q <= ahead_q >= (FILL_W + 1)'(need);
      ahead_q    <= ahead_q - (FILL_W + 1)'(need);
    end
  end

  always_ff @(posedge clk_i) begin
    if (rst_ni) begin
      a_stable : assert (!stalled_q || (out_valid_o && out_data_o == held_q));
      a_no_deadlock : assert (in_ready_o || out_valid_o);
      a_beat : assert ((BEAT_W + 1)'(beat_q) / (BEAT_W + 1)'(BEATS) == '0);
      a_fits : assert (count_q <= (FILL_W + 1)'(CAPACITY));
      a_count : assert (count_q == (FILL_W + 1)'(fill_q));
      a_zeros_above : assert ((data_q >> (fill_q * UNIT_W)) == '0);
      if (in_valid_i) begin
        a_in_count : assert (in_count_i != '0);
        a_in_fits : assert ((FILL_W + 1)'(in_count_i) / (FILL_W + 1)'(IN_UNITS + 1) == '0);
        a_in_zeros : assert ((in_data_i >> (in_count_i * UNIT_W)) == '0);
      end
      if (watching_q) begin
        a_watched_is_inside : assert (ahead_q < count_q);
        a_watched_waits : assert (UNIT_W'(data_q >> (ahead_q * UNIT_W)) == watched_q);
      end
      if (watching_q && pop && ahead_q < (FILL_W + 1)'(need)) begin
        a_watched_leaves : assert (UNIT_W'(out_data_o >> (ahead_q * UNIT_W)) == watched_q);
      end
    end
  end
`endif

endmodule
