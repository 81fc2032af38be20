// Read-only memory, filled from a $readmemh file of DEPTH words.
//
// Latency 2 enabled cycles (array read, then output register), interval 1; en_i holds both. BLOCK
// chooses block memory (1) or logic (0). Without a FILE every word is zero; an address of DEPTH or
// above reads an undefined word.
module quire_rom #(
  parameter int unsigned WIDTH = 8,
  parameter int unsigned DEPTH = 2,
  parameter int unsigned BLOCK = 1,
  parameter              FILE  = ""
) (
  input  logic                                           clk_i,
  input  logic                                           en_i,
  input  logic [((DEPTH > 1) ? $clog2(DEPTH) : 1) - 1:0] addr_i,
  output logic [WIDTH-1:0]                               data_o
);

  if (WIDTH < 1 || DEPTH < 1) begin : g_check_size
    $error("quire_rom: WIDTH and DEPTH must be 1 or more");
  end
  if (BLOCK > 1) begin : g_check_block
    $error("quire_rom: BLOCK must be 0 (logic) or 1 (block memory)");
  end

  logic [WIDTH-1:0] read_q;

  if (BLOCK != 0) begin : g_block
    (* rom_style = "block" *) logic [WIDTH-1:0] words[DEPTH];
    if (FILE != "") begin : g_file
      initial $readmemh(FILE, words, 0, DEPTH - 1);
    end else begin : g_zeros
      initial for (int unsigned i = 0; i < DEPTH; i++) words[i] = '0;
    end
    always_ff @(posedge clk_i) if (en_i) read_q <= words[addr_i];
  end else begin : g_logic
    (* rom_style = "logic" *) logic [WIDTH-1:0] words[DEPTH];
    if (FILE != "") begin : g_file
      initial $readmemh(FILE, words, 0, DEPTH - 1);
    end else begin : g_zeros
      initial for (int unsigned i = 0; i < DEPTH; i++) words[i] = '0;
    end
    always_ff @(posedge clk_i) if (en_i) read_q <= words[addr_i];
  end

  always_ff @(posedge clk_i) if (en_i) data_o <= read_q;

endmodule
