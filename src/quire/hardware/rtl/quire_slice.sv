// Register slice: one beat in, the same beat out, through two entries.
//
// Latency 1 cycle, interval 1. Both paths are registered: out_valid_o and out_data_o come from
// registers, and so does in_ready_o, which does not see out_ready_i.
module quire_slice #(
  parameter int unsigned WIDTH = 8
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

  if (WIDTH < 1) begin : g_check_width
    $error("quire_slice: WIDTH must be 1 or more");
  end

  logic             main_valid_q, skid_valid_q;
  logic [WIDTH-1:0] main_q, skid_q;
  logic             advance;

  assign in_ready_o  = ~skid_valid_q;
  assign out_valid_o = main_valid_q;
  assign out_data_o  = main_q;
  assign advance     = out_ready_i | ~main_valid_q;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      main_valid_q <= 1'b0;
      skid_valid_q <= 1'b0;
    end else if (advance) begin
      main_valid_q <= skid_valid_q | in_valid_i;
      skid_valid_q <= 1'b0;
    end else if (in_valid_i) begin
      skid_valid_q <= 1'b1;
    end
  end

  always_ff @(posedge clk_i) begin
    if (advance) main_q <= skid_valid_q ? skid_q : in_data_i;
    if (in_ready_o) skid_q <= in_data_i;
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
  logic [      1:0] count_q, ahead_q;
  logic [WIDTH-1:0] watched_q, held_q;
  logic             watching_q, stalled_q, push, pop;

  assign push = in_valid_i & in_ready_o;
  assign pop  = out_valid_o & out_ready_i;

  always_ff @(posedge clk_i) begin
    count_q   <= rst_ni ? count_q + 2'(push) - 2'(pop) : '0;
    stalled_q <= rst_ni & out_valid_o & ~out_ready_i;
    held_q    <= out_data_o;
    if (!rst_ni) begin
      watching_q <= 1'b0;
    end else if (!watching_q) begin
      watching_q <= push & choose;
      ahead_q    <= count_q - 2'(pop);
      watched_q  <= in_data_i;
    end else if (pop) begin
      watching_q <= ahead_q != '0;
      ahead_q    <= ahead_q - 2'(1);
    end
  end

  always_ff @(posedge clk_i) begin
    if (rst_ni) begin
      a_stable : assert (!stalled_q || (out_valid_o && out_data_o == held_q));
      a_filled_in_order : assert (main_valid_q || !skid_valid_q);
      a_count : assert (count_q == 2'(main_valid_q) + 2'(skid_valid_q));
      a_no_deadlock : assert (out_valid_o ? count_q != '0 : in_ready_o);
      if (watching_q) begin
        a_watched_is_inside : assert (ahead_q < count_q);
        a_watched_is_next : assert (ahead_q != 2'd0 || main_q == watched_q);
        a_watched_is_last : assert (ahead_q != 2'd1 || skid_q == watched_q);
      end
    end
  end
`endif

endmodule
