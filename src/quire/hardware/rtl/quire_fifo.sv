// First-in first-out queue of DEPTH beats.
//
// Interval 1 from a DEPTH of 1 on. REGISTERED = 0: latency 1 cycle, and out_data_o is an
// asynchronous read (logic or LUT memory). REGISTERED = 1: latency 2 cycles, a synchronous read
// into a register that holds one beat more than DEPTH (fits block memory). out_valid_o comes from
// registers; so does in_ready_o, but for a DEPTH of 1, where it sees out_ready_i.
module quire_fifo #(
  parameter int unsigned WIDTH      = 8,
  parameter int unsigned DEPTH      = 2,
  parameter int unsigned REGISTERED = 0
) (
  input  logic             clk_i,
  input  logic             rst_ni,
  input  logic             in_valid_i,
  output logic             in_ready_o,
  input  logic [WIDTH-1:0] in_data_i,
  output logic             out_valid_o,
  input  logic             out_ready_i,
  output logic [WIDTH-1:0] out_data_o
);

  localparam int unsigned ADDR_W = (DEPTH > 1) ? $clog2(DEPTH) : 1;
  localparam int unsigned FILL_W = $clog2(DEPTH + 1);

  if (WIDTH < 1 || DEPTH < 1) begin : g_check_size
    $error("quire_fifo: WIDTH and DEPTH must be 1 or more");
  end
  if (REGISTERED > 1) begin : g_check_registered
    $error("quire_fifo: REGISTERED must be 0 or 1");
  end

  logic [ WIDTH-1:0] beats[DEPTH];
  logic [ADDR_W-1:0] write_q, read_q;
  logic [FILL_W-1:0] fill_q;
  logic push, pop;

  assign push       = in_valid_i & in_ready_o;
  assign in_ready_o = fill_q != FILL_W'(DEPTH) || (DEPTH == 1 && pop);

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      write_q <= '0;
      read_q  <= '0;
      fill_q  <= '0;
    end else begin
      if (push) write_q <= (write_q == ADDR_W'(DEPTH - 1)) ? '0 : write_q + ADDR_W'(1);
      if (pop) read_q <= (read_q == ADDR_W'(DEPTH - 1)) ? '0 : read_q + ADDR_W'(1);
      if (push != pop) fill_q <= push ? fill_q + FILL_W'(1) : fill_q - FILL_W'(1);
    end
  end

  always_ff @(posedge clk_i) if (push) beats[write_q] <= in_data_i;

  if (REGISTERED != 0) begin : g_registered
    logic             valid_q;
    logic [WIDTH-1:0] data_q;

    assign pop         = fill_q != '0 && (out_ready_i || !valid_q);
    assign out_valid_o = valid_q;
    assign out_data_o  = data_q;

    always_ff @(posedge clk_i) begin
      if (!rst_ni) valid_q <= 1'b0;
      else valid_q <= pop | (valid_q & ~out_ready_i);
    end

    always_ff @(posedge clk_i) if (pop) data_q <= beats[read_q];
  end else begin : g_direct
    assign out_valid_o = fill_q != '0;
    assign out_data_o  = beats[read_q];
    assign pop         = out_valid_o & out_ready_i;
  end

`ifndef SYNTHESIS
  // Counts the beats inside and watches one of them: how many leave before it, and what it was. A
  // proof chooses any beat; a simulation the next one after each that left.
`ifdef FORMAL
  (* anyseq *) logic choose;
`else
  logic choose;
  assign choose = 1'b1;
`endif
  function automatic logic [ADDR_W-1:0] wrap(input logic [FILL_W:0] index);
    wrap = ADDR_W'((index < (FILL_W + 1)'(DEPTH)) ? index : index - (FILL_W + 1)'(DEPTH));
  endfunction

  logic [FILL_W:0] count_q, ahead_q, place;
  logic [WIDTH-1:0] watched_q, held_q;
  logic watching_q, stalled_q, hidden_q, leave, front;

  assign leave = out_valid_o & out_ready_i;
  assign front = out_valid_o && REGISTERED != 0;  // a beat in the output register
  assign place = (FILL_W + 1)'(read_q) + ahead_q - (FILL_W + 1)'(front);

  always_ff @(posedge clk_i) begin
    count_q   <= rst_ni ? count_q + (FILL_W + 1)'(push) - (FILL_W + 1)'(leave) : '0;
    stalled_q <= rst_ni & out_valid_o & ~out_ready_i;
    hidden_q  <= rst_ni && !out_valid_o && count_q != '0;
    held_q    <= out_data_o;
    if (!rst_ni) begin
      watching_q <= 1'b0;
    end else if (!watching_q) begin
      watching_q <= push & choose;
      ahead_q    <= count_q - (FILL_W + 1)'(leave);
      watched_q  <= in_data_i;
    end else if (leave) begin
      watching_q <= ahead_q != '0;
      ahead_q    <= ahead_q - (FILL_W + 1)'(1);
    end
  end

  always_ff @(posedge clk_i) begin
    if (rst_ni) begin
      a_stable : assert (!stalled_q || (out_valid_o && out_data_o == held_q));
      a_fits : assert ((FILL_W + 1)'(fill_q) / (FILL_W + 1)'(DEPTH + 1) == '0);
      a_count : assert (count_q == (FILL_W + 1)'(fill_q) + (FILL_W + 1)'(front));
      a_read : assert ((ADDR_W + 1)'(read_q) / (ADDR_W + 1)'(DEPTH) == '0);
      a_write : assert (write_q == wrap((FILL_W + 1)'(read_q) + (FILL_W + 1)'(fill_q)));
      a_no_deadlock : assert (out_valid_o ? count_q != '0 : in_ready_o);
      a_comes_out : assert (!hidden_q || out_valid_o);
      if (watching_q) begin
        a_watched_is_inside : assert (ahead_q < count_q);
        if (front && ahead_q == '0) begin
          a_watched_is_next : assert (out_data_o == watched_q);
        end else begin
          a_watched_waits : assert (beats[wrap(place)] == watched_q);
        end
      end
    end
  end
`endif

endmodule
